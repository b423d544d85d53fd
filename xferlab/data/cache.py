"""The image cache: every case decoded and resized once for a node, whatever studies and trials use it.

`<cache>/tables-v1/<size>px/<key>.arrow` holds the cases of one section at one size; the key is the SHA-256
of their digests. A table answers every request that it covers, whoever built it, and a new table takes the
rows that older ones have, so sections and filters over the same files share the work. Any file in it may be
deleted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from PIL import Image

from xferlab.cohort import Case
from xferlab.data.arrow_table import ImageTable, read_table, write_table
from xferlab.data.parallel import for_each
from xferlab.data.sources import Decoded, Source, open_source
from xferlab.errors import DataError, Problem, StorageError
from xferlab.study.schema import DataSection

__all__ = ["CACHE_VERSION", "ImageTable", "default_cache_dir", "open_table", "resized"]

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
    folder = cache_dir / f"tables-v{CACHE_VERSION}" / f"{size_px}px"
    table = _covering(folder, digests)
    if table is not None:
        return table
    source = open_source(section_name, config, memo_dir=cache_dir / "digests")
    cases = sorted(source.cases(), key=lambda case: case.digest)
    _check_present(section_name, digests, cases)
    with _storage_errors(cache_dir):
        folder.mkdir(parents=True, exist_ok=True)
        return _Builder(folder, source, tuple(cases), size_px).table(progress)


def resized(decoded: Decoded, size_px: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns image `(C, size_px, size_px)` and target `(size_px, size_px)`, stretched to the square.

    The image by antialiased bilinear interpolation, the target by nearest neighbour.
    """
    size = (size_px, size_px)
    image = np.asarray(Image.fromarray(decoded.image).resize(size, Image.Resampling.BILINEAR))
    target = np.asarray(Image.fromarray(decoded.target).resize(size, Image.Resampling.NEAREST))
    return np.ascontiguousarray(np.atleast_3d(image).transpose(2, 0, 1)), target


@dataclass(frozen=True)
class _Builder:
    """Builds the table of a section's cases.

    Attributes:
        folder: Where tables of this size lie.
        source: Where the pixels come from.
        cases: All cases of the section, by digest.
        size_px: Side of the square.
    """

    folder: Path
    source: Source
    cases: tuple[Case, ...]
    size_px: int

    @property
    def key(self) -> str:
        return hashlib.sha256("\n".join(case.digest for case in self.cases).encode()).hexdigest()[:24]

    def table(self, progress: Callable[[int, int], None] | None) -> ImageTable:
        """Returns the table, built here unless another process was faster."""
        path = self.folder / f"{self.key}.arrow"
        with FileLock(self.folder / f"{self.key}.lock"):
            built = _read_or_none(path)
            if built is not None:
                return built
            self._remove_leftovers()
            parts = [self.folder / f"{self.key}.{part}.tmp" for part in ("images", "targets", "table")]
            try:
                write_table(parts[2], self._fill(parts[0], parts[1], progress))
                os.replace(parts[2], path)
            finally:
                for part in parts:
                    part.unlink(missing_ok=True)
            return read_table(path)

    def _fill(self, images: Path, targets: Path, progress: Callable[[int, int], None] | None) -> ImageTable:
        """Writes every case's pixels at its row of two plain files and returns these, mapped.

        Rows are written with `pwrite`: through a map, a full disk would kill the process instead of raising.
        """
        count, side, channels = len(self.cases), self.size_px, self.source.channels
        spacing = np.full((count, 2), np.nan, np.float32)
        known = _Known([case.digest for case in self.cases], self.folder)
        with open(images, "wb") as image_file, open(targets, "wb") as target_file:

            def put(row: int) -> tuple[Problem, ...]:
                try:
                    image, target, spacing[row] = known.get(row) or self._pixels(self.cases[row])
                except DataError as error:
                    return error.problems
                _write_at(image_file.fileno(), image, row)
                _write_at(target_file.fileno(), target, row)
                return ()

            found = for_each(range(count), put, progress=progress)
        problems = [problem for one in found for problem in one]
        if problems:
            raise DataError(problems)
        return ImageTable(
            tuple(case.digest for case in self.cases),
            np.memmap(images, np.uint8, mode="r", shape=(count, channels, side, side)),
            np.memmap(targets, np.uint8, mode="r", shape=(count, side, side)),
            spacing,
        )

    def _pixels(self, case: Case) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
        decoded = self.source.decode(case)
        image, target = resized(decoded, self.size_px)
        spacing = np.full(2, np.nan, np.float32)
        if decoded.spacing_mm is not None:
            spacing[:] = np.multiply(decoded.spacing_mm, decoded.target.shape) / self.size_px
        return image, target, spacing

    def _remove_leftovers(self) -> None:
        """Removes what killed builders left: own files, and others' whose lock nobody holds."""
        for leftover in self.folder.glob("*.tmp"):
            key = leftover.name.partition(".")[0]
            if key == self.key:
                leftover.unlink(missing_ok=True)
                continue
            try:
                with FileLock(self.folder / f"{key}.lock", timeout=0):
                    leftover.unlink(missing_ok=True)
            except Timeout:
                continue


class _Known:
    """Rows of a new table that older tables of the folder already have."""

    def __init__(self, digests: Sequence[str], folder: Path):
        self._rows: dict[int, tuple[ImageTable, int]] = {}
        wanted = {digest: row for row, digest in enumerate(digests)}
        for table in _tables(folder):
            for old_row, digest in enumerate(table.digests):
                if digest in wanted:
                    self._rows[wanted[digest]] = (table, old_row)

    def get(self, row: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]] | None:
        """Returns image, target and spacing of a row, or None if no table has it."""
        if row not in self._rows:
            return None
        table, old_row = self._rows[row]
        return table.images[old_row], table.targets[old_row], table.spacing_mm[old_row]


def _covering(folder: Path, digests: Sequence[str]) -> ImageTable | None:
    return next((table for table in _tables(folder) if table.covers(digests)), None)


def _tables(folder: Path) -> Iterator[ImageTable]:
    for path in sorted(folder.glob("*.arrow")):
        table = _read_or_none(path)
        if table is not None:
            yield table


def _read_or_none(path: Path) -> ImageTable | None:
    """A table that cannot be read is as good as none: it is built anew."""
    try:
        return read_table(path)
    except (OSError, pa.ArrowException):
        return None


def _write_at(file: int, pixels: NDArray[np.uint8], row: int) -> None:
    view = memoryview(pixels.tobytes())
    offset = row * len(view)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


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
        raise StorageError(
            f"{cache_dir}: the image cache cannot be written: {what}."
            " Free space there, or let XFERLAB_CACHE name a folder on another disk."
        ) from error
