"""One Arrow file of decoded cases: written once, then mapped by every trial of a node without copies."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xferlab.errors import DataError, Problem

# Digests are bytes, and arrays are made from buffers: pyarrow's conversion of lists and NumPy arrays would
# import pandas, which takes longer than the rest.
_DIGEST = pa.binary(32)
_COLUMNS = ("digest", "image", "target", "spacing_mm")


@dataclass(frozen=True)
class ImageTable:
    """Decoded cases at one size, in digest order. The arrays are views of a read-only file map.

    Attributes:
        digests: Case digests, ascending.
        images: uint8, `(N, C, H, W)`; C is 1 for grey sources and 3 for MRI.
        targets: uint8, `(N, H, W)`: 0 background, 255 structure, 127 ignored.
        spacing_mm: float32, `(N, 2)`: distance of rows and of columns at this size; NaN where unknown.
    """

    digests: tuple[str, ...]
    images: NDArray[np.uint8]
    targets: NDArray[np.uint8]
    spacing_mm: NDArray[np.float32]

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {digest: row for row, digest in enumerate(self.digests)}

    def covers(self, digests: Iterable[str]) -> bool:
        """Returns whether every one of the digests has a row."""
        return all(digest in self._row_of for digest in digests)

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


def read_table(path: Path) -> ImageTable:
    """Maps a table that `write_table` wrote.

    Raises:
        pyarrow.ArrowException: If the file is torn or of another kind.
        OSError: If the file cannot be opened.
    """
    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    if batch.schema.names != list(_COLUMNS) or batch.schema.field("digest").type != _DIGEST:
        raise pa.ArrowInvalid(f"{path}: columns {batch.schema.names} are not those of an image table")
    digests = tuple(digest.hex() for digest in batch.column("digest").to_pylist())
    return ImageTable(
        digests,
        batch.column("image").to_numpy_ndarray(),
        batch.column("target").to_numpy_ndarray(),
        batch.column("spacing_mm").to_numpy_ndarray(),
    )


def write_table(path: Path, table: ImageTable) -> None:
    """Writes a table as one record batch and forces it to disk; rename it into place afterwards.

    The arrays may be file maps: nothing is held in memory as a whole.

    Raises:
        OSError: If the disk is full or not writable.
    """
    digests = b"".join(map(bytes.fromhex, table.digests))
    columns = [
        pa.Array.from_buffers(_DIGEST, len(table.digests), [None, pa.py_buffer(digests)]),
        _tensors(table.images, pa.uint8()),
        _tensors(table.targets, pa.uint8()),
        _tensors(table.spacing_mm, pa.float32()),
    ]
    batch = pa.RecordBatch.from_arrays(columns, names=list(_COLUMNS))
    with open(path, "wb") as file:
        with pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        file.flush()
        os.fsync(file.fileno())


def _tensors(array: NDArray[Any], kind: Any) -> Any:
    """The rows of a contiguous array as Arrow tensors, without a copy."""
    values = pa.Array.from_buffers(kind, array.size, [None, pa.py_buffer(array)])
    rows = pa.FixedSizeListArray.from_arrays(values, array[0].size)
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(kind, array.shape[1:]), rows)
