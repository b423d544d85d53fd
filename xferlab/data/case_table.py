"""Decoded cases in two files of pixels and an index: written once, then mapped by every trial of a node."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xferlab.data.memo import Stamp, read_json
from xferlab.errors import DataError, Problem

PARTS = ("images", "targets")
"""Suffixes of the files of pixels; `.json` is the index's."""

CasePixels = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]
"""Image `(C, H, W)`, target `(H, W)` and spacing `(2,)` in mm of one case."""

_verdicts: dict[tuple[Path, Stamp, str], bool] = {}
"""What this process found. A worker opens the same tables for every trial, and reading them takes seconds."""


@dataclass(frozen=True)
class CaseTable:
    """Decoded cases; their pixels are views of read-only file maps.

    Attributes:
        digests: Case digests, in the order of the rows, which is any.
        channels: Of every image: 1 for grey sources and 3 for MRI.
        sizes: int32, `(N, 2)`: height and width in px.
        spacing_mm: float32, `(N, 2)`: distance of rows and of columns at this size; NaN where unknown.
        pixels: uint8: all images, one after the other, and all targets.
    """

    digests: tuple[str, ...]
    channels: int
    sizes: NDArray[np.int32]
    spacing_mm: NDArray[np.float32]
    pixels: tuple[NDArray[np.uint8], NDArray[np.uint8]]

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {digest: row for row, digest in enumerate(self.digests)}

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """Where the target of each row ends."""
        return np.cumsum(self.sizes.astype(np.int64).prod(axis=1))

    def rows(self, digests: Sequence[str]) -> NDArray[np.intp]:
        """Returns the row of each digest, `(len(digests),)`.

        Raises:
            DataError: If one of them is not in the table.
        """
        missing = [digest for digest in digests if digest not in self._row_of]
        if missing:
            what = f"{len(missing)} of {len(digests)} cases are not in this table, such as {missing[0]}."
            raise DataError(Problem("image cache", what))
        return np.array([self._row_of[digest] for digest in digests], dtype=np.intp)

    def image(self, row: int) -> NDArray[np.uint8]:
        """Returns the image of a row, uint8 `(C, H, W)`, a view."""
        end, shape = self.channels * self._ends[row], (self.channels, *self.sizes[row])
        return self.pixels[0][end - np.prod(shape) : end].reshape(shape)

    def target(self, row: int) -> NDArray[np.uint8]:
        """Returns the target of a row, uint8 `(H, W)`, a view: 0 background, 255 structure, 127 ignored."""
        end, shape = self._ends[row], self.sizes[row]
        return self.pixels[1][end - np.prod(shape) : end].reshape(shape)

    def case(self, digest: str) -> CasePixels:
        """Returns image, target and spacing of a case that is in the table, as views."""
        row = self._row_of[digest]
        return self.image(row), self.target(row), self.spacing_mm[row]

    @property
    def images(self) -> NDArray[np.uint8]:
        """All images of a table of one size, uint8 `(N, C, H, W)`, a view."""
        return self.pixels[0].reshape(len(self.digests), self.channels, *self.sizes[0])

    @property
    def targets(self) -> NDArray[np.uint8]:
        """All targets of a table of one size, uint8 `(N, H, W)`, a view."""
        return self.pixels[1].reshape(len(self.digests), *self.sizes[0])


def read_table(index_path: Path, *, useful: Callable[[set[str]], bool] = bool) -> CaseTable | None:
    """Maps a table. One that cannot be read, or has other bytes than were written, is as good as none.

    Args:
        index_path: Its index.
        useful: Told the digests of its cases; the pixels of a table that is of no use are not read.
    """
    try:
        index = read_json(index_path)
        if not useful(set(index["digests"])):
            return None
        images, targets = (
            _mapped(index_path.with_suffix(f".{part}"), index["sha256"][part]) for part in PARTS
        )
    except (OSError, ValueError):
        return None
    return CaseTable(
        tuple(index["digests"]),
        index["channels"],
        np.array(index["sizes"], np.int32),
        np.array(index["spacing_mm"], np.float32),
        (images, targets),
    )


def tables_in(folder: Path, useful: Callable[[set[str]], bool]) -> Iterator[CaseTable]:
    """Yields every intact table of a folder that is of use."""
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
        pixels = np.memmap(file, np.uint8, mode="r")
        key = path, Stamp.of(os.fstat(file.fileno())), sha256
        if key not in _verdicts:
            file.seek(0)
            _verdicts[key] = hashlib.file_digest(file, "sha256").hexdigest() == sha256
    if not _verdicts[key]:
        raise ValueError(f"{path}: does not have the bytes that were written")
    return pixels
