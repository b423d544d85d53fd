"""Tables of decoded cases: two files of pixels and an index, written once and mapped by all trials of a node.

One process builds a table and the others wait; one that is killed leaves only files that the next removes.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from xferlab.cohort import Case
from xferlab.data.memo import Stamp, read_json, stamp_of, write_json
from xferlab.data.sources.source import Decoded, Source
from xferlab.errors import DataError, attempt, successes
from xferlab.parallel import Progress, for_each

PARTS = ("images", "targets")
"""Suffixes of the files of pixels; `.json` is the index's."""

CasePixels = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]
"""Image `(C, H, W)`, targets `(S, H, W)` and spacing `(2,)` in mm of one case."""

_verdicts: dict[tuple[Path, Stamp, str], bool] = {}
"""What this process found. A worker opens the same tables for every trial, and reading them takes seconds."""


@dataclass(frozen=True)
class CaseTable:
    """Decoded cases; their pixels are views of read-only file maps.

    Attributes:
        digests: Case digests, in the order of the rows, which is any.
        planes: Of every image (1 for grey sources and 3 for MRI), and of its targets: one a structure.
        sizes: int32, `(N, 2)`: height and width in px.
        spacing_mm: float32, `(N, 2)`: distance of rows and of columns at this size; NaN where unknown.
        pixels: uint8: all images, one after the other, and all targets.
    """

    digests: tuple[str, ...]
    planes: tuple[int, int]
    sizes: NDArray[np.int32]
    spacing_mm: NDArray[np.float32]
    pixels: tuple[NDArray[np.uint8], NDArray[np.uint8]]

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {digest: row for row, digest in enumerate(self.digests)}

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """Where the pixels of each row end, if every row had one plane."""
        return np.cumsum(self.sizes.astype(np.int64).prod(axis=1))

    def rows(self, digests: Sequence[str]) -> NDArray[np.intp]:
        """Returns the row of each digest, `(len(digests),)`.

        Raises:
            DataError: If one of them is not in the table.
        """
        missing = [digest for digest in digests if digest not in self._row_of]
        if missing:
            raise DataError.at(
                "image cache",
                f"{len(missing)} of {len(digests)} cases are not in this table, such as {missing[0]}.",
            )
        return np.array([self._row_of[digest] for digest in digests], dtype=np.intp)

    def image(self, row: int) -> NDArray[np.uint8]:
        """Returns the image of a row, uint8 `(C, H, W)`, a view."""
        return self._part(0, row)

    def targets_of(self, row: int) -> NDArray[np.uint8]:
        """Returns the targets of a row, uint8 `(S, H, W)`, a view; values as in `Decoded`."""
        return self._part(1, row)

    def _part(self, part: int, row: int) -> NDArray[np.uint8]:
        planes = self.planes[part]
        end, shape = planes * self._ends[row], (planes, *self.sizes[row])
        return self.pixels[part][end - np.prod(shape) : end].reshape(shape)

    def case(self, digest: str) -> CasePixels:
        """Returns image, targets and spacing of a case that is in the table, as views."""
        row = self._row_of[digest]
        return self.image(row), self.targets_of(row), self.spacing_mm[row]

    @property
    def images(self) -> NDArray[np.uint8]:
        """All images of a table of one size, uint8 `(N, C, H, W)`, a view."""
        return self.pixels[0].reshape(len(self.digests), self.planes[0], *self.sizes[0])

    @property
    def targets(self) -> NDArray[np.uint8]:
        """All targets of a table of one size, uint8 `(N, S, H, W)`, a view."""
        return self.pixels[1].reshape(len(self.digests), self.planes[1], *self.sizes[0])


def read_table(index_path: Path, *, useful: Callable[[set[str]], bool] = bool) -> CaseTable | None:
    """Maps a table. One that cannot be read, or has other bytes than were written, is as good as none.

    Args:
        index_path: Its index.
        useful: Called with the digests of its cases; the pixels of a table that is not useful are not read.
    """
    with suppress(OSError, ValueError):
        index = read_json(index_path)
        if useful(set(index["digests"])):
            images, targets = (
                _mapped(index_path.with_suffix(f".{part}"), index["sha256"][part]) for part in PARTS
            )
            return CaseTable(
                tuple(index["digests"]),
                tuple(index["planes"]),
                np.array(index["sizes"], np.int32),
                np.array(index["spacing_mm"], np.float32),
                (images, targets),
            )
    return None


def tables_in(folder: Path, useful: Callable[[set[str]], bool]) -> Iterator[CaseTable]:
    """Yields every intact table of a folder that is useful."""
    for path in sorted(folder.glob("*.json")):
        table = read_table(path, useful=useful)
        if table is not None:
            yield table


def _mapped(path: Path, sha256: str) -> NDArray[np.uint8]:
    """The bytes of a file as a map, after their digest was compared.

    Raises:
        ValueError: They have another digest.
        OSError: There is no such file.
    """
    with open(path, "rb") as file:
        is_empty = not os.fstat(file.fileno()).st_size  # such a file cannot be mapped
        pixels = np.empty(0, np.uint8) if is_empty else np.memmap(file, np.uint8, mode="r")
        key = path, stamp_of(os.fstat(file.fileno())), sha256
        if key not in _verdicts:
            file.seek(0)
            _verdicts[key] = hashlib.file_digest(file, "sha256").hexdigest() == sha256
    if not _verdicts[key]:
        raise ValueError(f"{path}: does not have the bytes that were written")
    return pixels


@dataclass(frozen=True)
class Builder:
    """Builds the table of the cases of a section, or of several.

    Attributes:
        folder: Where its files lie.
        pixels: What it keeps of a decoded case.
        cases: All cases by digest, each with the source of its pixels.
    """

    folder: Path
    pixels: Callable[[Decoded], CasePixels]
    cases: tuple[tuple[Case, Source], ...]

    @property
    def key(self) -> str:
        """The name of the table's files."""
        return hashlib.sha256("\n".join(case.digest for case, _ in self.cases).encode()).hexdigest()[:24]

    def table(self, progress: Progress | None) -> CaseTable:
        """Returns the table, built here unless another process was faster."""
        index = self.folder / f"{self.key}.json"
        with FileLock(self.folder / f"{self.key}.lock"):
            built = read_table(index)
            if built is None:
                if index.exists():
                    logging.getLogger("xferlab.data").warning(
                        "%s: does not have the bytes that were written; building it again", index
                    )
                self._remove_leftovers()
                self._build(index, progress)
                built = read_table(index)
        if built is None:
            raise DataError.at(
                index, "what was just written there reads back as other bytes; see whether the disk is sound."
            )
        return built

    def _build(self, index: Path, progress: Progress | None) -> None:
        """Writes the pixels and then the index, without which nobody reads them."""
        written = [index.with_suffix(f".{part}.tmp") for part in PARTS]
        try:
            with open(written[0], "wb") as images, open(written[1], "wb") as targets:
                content = self._write((images, targets), progress)
            for path in written:
                os.replace(path, path.with_suffix(""))
            write_json(index, content)
        finally:
            for path in written:
                path.unlink(missing_ok=True)

    def _write(self, files: tuple[BinaryIO, BinaryIO], progress: Progress | None) -> dict[str, object]:
        """Writes images and targets in the order in which they are decoded, and returns the table's index.

        Rows are written, not copied into a map: there, a full disk would kill the process instead of raising.
        """
        known, lock, checksums = self._known(), Lock(), [hashlib.sha256() for _ in PARTS]
        rows: list[tuple[str, tuple[int, int], tuple[int, ...], list[float]]] = []

        def put(item: tuple[Case, Source]) -> None:
            case, source = item
            table = known.get(case.digest)
            *arrays, spacing_mm = table.case(case.digest) if table else self.pixels(source.decode(case))
            with lock:
                for file, checksum, array in zip(files, checksums, arrays, strict=True):
                    data = array.tobytes()
                    file.write(data)
                    checksum.update(data)
                planes, size = (len(arrays[0]), len(arrays[1])), arrays[0].shape[1:]
                rows.append((case.digest, planes, size, spacing_mm.tolist()))

        successes(for_each(self.cases, partial(attempt, put), progress=progress))
        for file in files:
            file.flush()
            os.fsync(file.fileno())
        digests, planes, sizes, spacings = zip(*rows, strict=True)
        sha256 = {part: checksum.hexdigest() for part, checksum in zip(PARTS, checksums, strict=True)}
        return {
            "digests": digests,
            "sizes": sizes,
            "spacing_mm": spacings,
            "planes": planes[0],
            "sha256": sha256,
        }

    def _known(self) -> dict[str, CaseTable]:
        """Digest -> an older table that has its pixels."""
        wanted = {case.digest for case, _ in self.cases}
        known: dict[str, CaseTable] = {}
        for table in tables_in(self.folder, lambda digests: not wanted.isdisjoint(digests)):
            known.update(dict.fromkeys(wanted.intersection(table.digests), table))
        return known

    def _remove_leftovers(self) -> None:
        """Removes what killed builders left: own files, and others' whose lock nobody holds."""
        for leftover in self.folder.glob("*.tmp"):
            key = leftover.name.partition(".")[0]
            lock = FileLock(self.folder / f"{key}.lock", timeout=0)
            with suppress(Timeout), nullcontext() if key == self.key else lock:
                leftover.unlink(missing_ok=True)
