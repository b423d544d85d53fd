"""The image cache: every case decoded and resized once for a node, whatever studies and trials use it.

`<cache>/tables-v6/<size>px/<key>.images` and `.targets` hold the pixels of the cases of a section, or of a
set of sections, at one size, those in `native` at their own; the key is the SHA-256 of the cases' digests.
`<key>.json` says which case is where, and which digests the two files have: every process compares them once,
and a table with other bytes is built again. A table answers every request that it covers, whoever built it,
and a new table takes the rows that older ones have, so sections and filters over the same files share the
work. Any file may be deleted.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xferlab.data.case_table import Builder, CasePixels, CaseTable, tables_in
from xferlab.data.sources.registry import DataSection, open_source
from xferlab.data.sources.source import Decoded
from xferlab.errors import DataError, StorageError, UsageError
from xferlab.parallel import Progress

CACHE_VERSION = 6
"""Raised when resizing or the layout of tables changes.

Tables of version 1 may hold pixels of other bytes than a case's digest says; version 2 had Arrow files,
version 3 one target a case.
"""

_LACKS = {
    **dict.fromkeys((errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP), "file locks"),
    errno.ENODEV: "files that can be mapped into memory",
}
"""What a file system lacks that answers with this error, as some network mounts do."""

Size = int | Literal["native"]
"""Side in px of the square that images are stretched to; `native` leaves each as it is."""


def default_cache_dir() -> Path:
    """Returns `$XFERLAB_CACHE`, else `xferlab` in `$XDG_CACHE_HOME` or `~/.cache`.

    Raises:
        UsageError: A home folder that the path names is not known.
    """
    cache = os.environ.get("XFERLAB_CACHE") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/xferlab"
    try:
        return Path(cache).expanduser().absolute()
    except RuntimeError as error:  # no HOME, and no such user
        raise UsageError(
            f"the cache {cache} lies in a home folder that is not known; set XFERLAB_CACHE to a folder on a "
            "local disk"
        ) from error


def open_table(
    sections: Mapping[str, DataSection],
    *,
    size: Size,
    digests: Sequence[str],
    cache_dir: Path,
    progress: Progress | None = None,
) -> CaseTable:
    """Returns a table that holds at least the given cases, mapped read-only; builds it if there is none.

    One process builds and the others wait. A builder that is killed leaves only files that the next removes.

    Args:
        sections: The section, or several that are one set of cases, by name; roots are absolute. Not touched
            if a table covers the digests.
        size: Of the images.
        digests: Cases that the caller will ask for.
        cache_dir: Folder of the cache, shared by all processes of a node.
        progress: Called with (done, all) while building.

    Raises:
        DataError: With all cases that cannot be decoded, or if a digest is no case of the section.
        StorageError: If the cache cannot be written.
    """
    folder = cache_dir / f"tables-v{CACHE_VERSION}" / ("native" if size == "native" else f"{size}px")
    wanted = set(digests)
    table = next(tables_in(folder, wanted.issubset), None)
    if table is not None:
        return table
    memo_dir = cache_dir / "digests"
    sources = [open_source(name, config, memo_dir=memo_dir) for name, config in sections.items()]
    cases = {case.digest: (case, source) for source in reversed(sources) for case in source.cases()}
    missing = wanted - cases.keys()
    if missing:
        raise DataError.at(
            f"data.{'+'.join(sections)}",
            f"{len(missing)} of {len(wanted)} planned cases are not there any more, such as {min(missing)}:"
            " images, masks, labels or filters changed since the study was planned. Plan it again.",
        )
    with cache_errors(cache_dir):
        folder.mkdir(parents=True, exist_ok=True)
        _try(folder)
        read = [cases[digest] for digest in sorted(cases)]
        return Builder(folder, partial(_pixels, size=size), tuple(read)).table(progress)


def resized(decoded: Decoded, size_px: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns image `(C, size_px, size_px)` and targets `(S, size_px, size_px)`, stretched to the square.

    The image by antialiased bilinear interpolation, the targets by nearest neighbour.
    """
    size = (size_px, size_px)
    image = np.asarray(Image.fromarray(decoded.image).resize(size, Image.Resampling.BILINEAR))
    targets = np.empty((len(decoded.targets), *size), np.uint8)
    for plane, target in zip(targets, decoded.targets, strict=True):
        plane[:] = np.asarray(Image.fromarray(target).resize(size, Image.Resampling.NEAREST))
    return _channels_first(image), targets


def _pixels(decoded: Decoded, *, size: Size) -> CasePixels:
    """What a table keeps of a case."""
    spacing = np.array(decoded.spacing_mm or (np.nan, np.nan))
    if size == "native":
        return _channels_first(decoded.image), decoded.targets, spacing.astype(np.float32)
    image, targets = resized(decoded, size)
    return image, targets, (spacing * decoded.image.shape[:2] / size).astype(np.float32)


def _channels_first(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.atleast_3d(image).transpose(2, 0, 1))


def check_cache(cache_dir: Path) -> None:
    """Refuses a cache that cannot be written, or whose file system lacks what it needs.

    Raises:
        StorageError: Says why, and what to set.
    """
    with cache_errors(cache_dir):
        cache_dir.mkdir(parents=True, exist_ok=True)
        _try(cache_dir)


def _try(folder: Path) -> None:
    """Writes, locks and maps a file: `FileLock` would wait for a killed process where `flock` is missing."""
    with TemporaryFile(dir=folder, buffering=0) as probe:
        probe.write(b"x")
        fcntl.flock(probe, fcntl.LOCK_EX)
        mmap.mmap(probe.fileno(), 1, access=mmap.ACCESS_READ).close()


@contextmanager
def cache_errors(cache_dir: Path) -> Iterator[None]:
    """Names the cache where something in it cannot be written.

    Raises:
        StorageError: Says why, and what to set.
    """
    try:
        yield
    except OSError as error:
        if lacks := _LACKS.get(error.errno or 0):
            raise StorageError(
                f"{cache_dir}: the image cache cannot lie there: the file system has no {lacks}"
                f" ({error.strerror}). Let XFERLAB_CACHE name a folder on a local disk."
            ) from error
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "Free space there" if full else "Make the folder writable"
        raise StorageError(
            f"{cache_dir}: the image cache cannot be written: {error.strerror or error}."
            f" {remedy}, or let XFERLAB_CACHE name a folder on another disk."
        ) from error
