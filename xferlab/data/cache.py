"""The image cache: every case decoded and resized once for a node, whatever studies and trials use it.

`<cache>/tables-v1/<size>px/<key>.arrow` holds the cases of one section at one size, `native/<key>.arrow` at
their own; the key is the SHA-256 of their digests. A table answers every request that it covers, whoever
built it, and a new table takes the rows that older ones have, so sections and filters over the same files
share the work. `<key>.sha256` beside it is the digest of its bytes, which every process checks once: a table
without it, or with other bytes, is built anew. Any file in it may be deleted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xferlab.cohort import Case
from xferlab.data.arrow_table import (
    CasePixels,
    ImageTable,
    NativeTable,
    read_native_table,
    read_table,
    write_native_table,
    write_table,
)
from xferlab.data.building import Builder, Form, NativeSpool, Progress, SquareSpool, T
from xferlab.data.sources import Decoded, open_source
from xferlab.errors import DataError, Problem, StorageError
from xferlab.study.sections import DataSection

__all__ = [
    "CACHE_VERSION",
    "ImageTable",
    "NativeTable",
    "default_cache_dir",
    "open_cases",
    "open_native",
    "open_table",
    "resized",
]

CACHE_VERSION = 1
"""Raised when resizing or the layout of tables changes."""


def default_cache_dir() -> Path:
    """Returns `$XFERLAB_CACHE`, else `xferlab` in `$XDG_CACHE_HOME` or `~/.cache`."""
    own = os.environ.get("XFERLAB_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "xferlab"


def open_table(
    section_name: str,
    config: DataSection,
    *,
    size_px: int,
    digests: Sequence[str],
    cache_dir: Path,
    progress: Callable[[int, int], None] | None = None,
) -> ImageTable:
    """Returns a table that holds at least the given cases, mapped read-only; builds it if there is none.

    One process builds and the others wait. A builder that is killed leaves only files that the next removes.

    Args:
        section_name: As in the study, for messages.
        config: The section; its root is absolute. Not touched if a table covers the digests.
        size_px: Side of the square that images are stretched to.
        digests: Cases that the caller will ask for.
        cache_dir: Folder of the cache, shared by all processes of a node.
        progress: Told (done, all) while building.

    Raises:
        DataError: With all cases that cannot be decoded, or if a digest is no case of the section.
        StorageError: If the cache cannot be written.
    """
    form = Form(
        _tables_of(cache_dir) / f"{size_px}px",
        partial(_square, size_px),
        SquareSpool,
        read_table,
        write_table,
    )
    return _open(form, _Request(section_name, config, tuple(digests), cache_dir), progress)


def open_native(
    section_name: str,
    config: DataSection,
    *,
    digests: Sequence[str],
    cache_dir: Path,
    progress: Callable[[int, int], None] | None = None,
) -> NativeTable:
    """Returns a table of cases at the size that they have; all else as `open_table`.

    Raises:
        DataError: With all cases that cannot be decoded, or if a digest is no case of the section.
        StorageError: If the cache cannot be written.
    """
    folder = _tables_of(cache_dir) / "native"
    form = Form(folder, _native, NativeSpool, read_native_table, write_native_table)
    return _open(form, _Request(section_name, config, tuple(digests), cache_dir), progress)


def open_cases(
    section_name: str,
    config: DataSection,
    *,
    size: int | Literal["native"],
    digests: Sequence[str],
    cache_dir: Path,
    progress: Callable[[int, int], None] | None = None,
) -> ImageTable | NativeTable:
    """Returns a table of cases at a size in px, or at the size that they have; all else as `open_table`.

    Raises:
        DataError: With all cases that cannot be decoded, or if a digest is no case of the section.
        StorageError: If the cache cannot be written.
    """
    if size == "native":
        return open_native(section_name, config, digests=digests, cache_dir=cache_dir, progress=progress)
    return open_table(
        section_name, config, size_px=size, digests=digests, cache_dir=cache_dir, progress=progress
    )


def resized(decoded: Decoded, size_px: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns image `(C, size_px, size_px)` and target `(size_px, size_px)`, stretched to the square.

    The image by antialiased bilinear interpolation, the target by nearest neighbour.
    """
    size = (size_px, size_px)
    image = np.asarray(Image.fromarray(decoded.image).resize(size, Image.Resampling.BILINEAR))
    target = np.asarray(Image.fromarray(decoded.target).resize(size, Image.Resampling.NEAREST))
    return _channels_first(image), target


@dataclass(frozen=True)
class _Request:
    """Which cases of which section are asked for, and where they are kept."""

    section_name: str
    config: DataSection
    digests: tuple[str, ...]
    cache_dir: Path


def _open(form: Form[T], request: _Request, progress: Progress | None) -> T:
    table = form.covering(request.digests)
    if table is not None:
        return table
    source = open_source(request.section_name, request.config, memo_dir=request.cache_dir / "digests")
    cases = sorted(source.cases(), key=lambda case: case.digest)
    _check_present(request.section_name, request.digests, cases)
    with _storage_errors(request.cache_dir):
        form.folder.mkdir(parents=True, exist_ok=True)
        return Builder(form, source, tuple(cases)).table(progress)


def _tables_of(cache_dir: Path) -> Path:
    return cache_dir / f"tables-v{CACHE_VERSION}"


def _square(size_px: int, decoded: Decoded) -> CasePixels:
    image, target = resized(decoded, size_px)
    spacing = np.full(2, np.nan, np.float32)
    if decoded.spacing_mm is not None:
        spacing[:] = np.multiply(decoded.spacing_mm, decoded.target.shape) / size_px
    return image, target, spacing


def _native(decoded: Decoded) -> CasePixels:
    spacing = np.full(2, np.nan, np.float32)
    if decoded.spacing_mm is not None:
        spacing[:] = decoded.spacing_mm
    return _channels_first(decoded.image), decoded.target, spacing


def _channels_first(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.atleast_3d(image).transpose(2, 0, 1))


def _check_present(section_name: str, digests: Sequence[str], cases: Sequence[Case]) -> None:
    missing = set(digests) - {case.digest for case in cases}
    if missing:
        what = (
            f"{len(missing)} of {len(set(digests))} planned cases are not there any more,"
            f" such as {min(missing)}: images, masks, labels or filters changed"
            " since the study was planned. Plan it again."
        )
        raise DataError(Problem(f"data.{section_name}", what))


@contextmanager
def _storage_errors(cache_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = error.strerror or str(error)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "Free space there" if full else "Make the folder writable"
        raise StorageError(
            f"{cache_dir}: the image cache cannot be written: {what}."
            f" {remedy}, or let XFERLAB_CACHE name a folder on another disk."
        ) from error
