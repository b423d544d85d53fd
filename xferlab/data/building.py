"""Building tables of cases: one process decodes and the others wait; one that is killed leaves nothing."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from xferlab.cohort import Case
from xferlab.data.arrow_table import CasePixels, CaseTable, ImageTable, NativeTable, Ragged
from xferlab.data.checksum import FileIdentity, is_intact, replace_sealed
from xferlab.data.sources import Decoded, Source
from xferlab.errors import DataError, Problem
from xferlab.parallel import for_each

Progress = Callable[[int, int], None]

log = logging.getLogger("xferlab.data")

T = TypeVar("T", bound=CaseTable)


class Spool(ABC, Generic[T]):
    """Two plain files that cases are written to in any order and from any thread, before they are a table.

    Rows are written with `pwrite`: through a map, a full disk would kill the process instead of raising.
    """

    def __init__(self, images: BinaryIO, targets: BinaryIO, count: int):
        """Takes empty files, open to write, for `count` cases."""
        self.images, self.targets, self.count = images, targets, count

    @abstractmethod
    def put(self, row: int, image: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
        """Writes a case."""

    @abstractmethod
    def table(self, digests: tuple[str, ...], spacing_mm: NDArray[np.float32]) -> T:
        """Returns all cases as a table over the files, mapped."""


class SquareSpool(Spool[ImageTable]):
    """Cases of one size, each at the place of its row."""

    _shape: tuple[int, ...] = ()

    def put(self, row: int, image: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
        """Writes a case at its row."""
        self._shape = image.shape
        write_at(self.images, image, row * image.size)
        write_at(self.targets, target, row * target.size)

    def table(self, digests: tuple[str, ...], spacing_mm: NDArray[np.float32]) -> ImageTable:
        """Returns all cases as a table over the files, mapped."""
        images = _mapped(self.images, (self.count, *self._shape))
        return ImageTable(digests, images, _mapped(self.targets, (self.count, *self._shape[1:])), spacing_mm)


class NativeSpool(Spool[NativeTable]):
    """Cases of any size, in the order in which they come: decoding tells their sizes."""

    def __init__(self, images: BinaryIO, targets: BinaryIO, count: int):
        """Takes empty files, open to write, for `count` cases."""
        super().__init__(images, targets, count)
        self._channels = 0
        self._sizes = np.zeros((count, 2), np.int32)
        self._starts = np.zeros((2, count), np.int64)
        self._ends = np.zeros(2, np.int64)
        self._lock = threading.Lock()

    def put(self, row: int, image: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
        """Writes a case behind those that are there."""
        with self._lock:
            self._channels = image.shape[0]
            self._starts[:, row] = self._ends
            self._ends += (image.size, target.size)
        self._sizes[row] = target.shape
        write_at(self.images, image, int(self._starts[0, row]))
        write_at(self.targets, target, int(self._starts[1, row]))

    def table(self, digests: tuple[str, ...], spacing_mm: NDArray[np.float32]) -> NativeTable:
        """Returns all cases as a table over the files, mapped."""
        images, targets = (
            Ragged(_mapped(file, (int(end),)), starts)
            for file, end, starts in zip((self.images, self.targets), self._ends, self._starts, strict=True)
        )
        return NativeTable(digests, self._channels, self._sizes, spacing_mm, images, targets)


@dataclass(frozen=True)
class Form(Generic[T]):
    """A kind of table.

    Attributes:
        folder: Where its files lie.
        pixels: What it keeps of a decoded case.
        spool: What collects its cases in two files.
        read: Maps one of its files.
        write: Writes one.
    """

    folder: Path
    pixels: Callable[[Decoded], CasePixels]
    spool: Callable[[BinaryIO, BinaryIO, int], Spool[T]]
    read: Callable[[Path], T]
    write: Callable[[Path, T], None]

    def covering(self, digests: Sequence[str]) -> T | None:
        """Returns a table that holds all of the cases, or None."""
        return next(self.tables(lambda table: table.covers(digests)), None)

    def tables(self, useful: Callable[[T], bool]) -> Iterator[T]:
        """Yields every intact table of the folder that is of use; the bytes of others are not read."""
        for path in sorted(self.folder.glob("*.arrow")):
            table = self.read_or_none(path, useful)
            if table is not None:
                yield table

    def read_or_none(self, path: Path, useful: Callable[[T], bool] = lambda table: True) -> T | None:
        """A table that cannot be read, or has other bytes than were written, is as good as none."""
        try:
            identity = FileIdentity.of(path)
            table = self.read(path)
        except (OSError, ValueError, pa.ArrowException):
            return None
        return table if useful(table) and is_intact(identity) else None


@dataclass(frozen=True)
class Builder(Generic[T]):
    """Builds the table of a section's cases.

    Attributes:
        form: Its kind.
        source: Where the pixels come from.
        cases: All cases of the section, by digest.
    """

    form: Form[T]
    source: Source
    cases: tuple[Case, ...]

    @property
    def key(self) -> str:
        """The name of the table's file."""
        return hashlib.sha256("\n".join(case.digest for case in self.cases).encode()).hexdigest()[:24]

    def table(self, progress: Progress | None) -> T:
        """Returns the table, built here unless another process was faster."""
        folder, key = self.form.folder, self.key
        path = folder / f"{key}.arrow"
        with FileLock(folder / f"{key}.lock"):
            built = self.form.read_or_none(path)
            if built is not None:
                return built
            if path.exists():
                log.warning("%s: does not have the bytes that were written; building it anew", path)
            self._remove_leftovers()
            parts = [folder / f"{key}.{part}.tmp" for part in ("images", "targets", "table")]
            try:
                with open(parts[0], "wb") as images, open(parts[1], "wb") as targets:
                    spool = self.form.spool(images, targets, len(self.cases))
                    self.form.write(parts[2], self._fill(spool, progress))
                replace_sealed(parts[2], path)
            finally:
                for part in parts:
                    part.unlink(missing_ok=True)
            return self.form.read(path)

    def _fill(self, spool: Spool[T], progress: Progress | None) -> T:
        """Writes every case's pixels to the spool and returns it as a table."""
        digests = tuple(case.digest for case in self.cases)
        spacing = np.full((len(digests), 2), np.nan, np.float32)
        known = _Known(digests, self.form)

        def put(row: int) -> tuple[Problem, ...]:
            try:
                image, target, spacing[row] = known.get(row) or self.form.pixels(
                    self.source.decode(self.cases[row])
                )
            except DataError as error:
                return error.problems
            spool.put(row, image, target)
            return ()

        found = for_each(range(len(digests)), put, progress=progress)
        problems = [problem for one in found for problem in one]
        if problems:
            raise DataError(problems)
        return spool.table(digests, spacing)

    def _remove_leftovers(self) -> None:
        """Removes what killed builders left: own files, and others' whose lock nobody holds."""
        for leftover in self.form.folder.glob("*.tmp"):
            key = leftover.name.partition(".")[0]
            if key == self.key:
                leftover.unlink(missing_ok=True)
                continue
            try:
                with FileLock(self.form.folder / f"{key}.lock", timeout=0):
                    leftover.unlink(missing_ok=True)
            except Timeout:
                continue


class _Known(Generic[T]):
    """Rows of a new table that older tables of the folder already have."""

    def __init__(self, digests: Sequence[str], form: Form[T]):
        self._rows: dict[int, tuple[T, int]] = {}
        wanted = {digest: row for row, digest in enumerate(digests)}
        for table in form.tables(lambda table: not wanted.keys().isdisjoint(table.digests)):
            for old_row, digest in enumerate(table.digests):
                if digest in wanted:
                    self._rows[wanted[digest]] = (table, old_row)

    def get(self, row: int) -> CasePixels | None:
        """Returns image, target and spacing of a row, or None if no table has it."""
        if row not in self._rows:
            return None
        table, old_row = self._rows[row]
        return table.case(old_row)


def write_at(file: BinaryIO, pixels: NDArray[np.uint8], offset: int) -> None:
    """Writes all bytes of an array at a place of a file."""
    view = memoryview(pixels.tobytes())
    while view:
        written = os.pwrite(file.fileno(), view, offset)
        view, offset = view[written:], offset + written


def _mapped(file: BinaryIO, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.memmap(file.name, np.uint8, mode="r", shape=shape)
