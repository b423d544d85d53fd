"""One Arrow file of decoded cases: written once, then mapped by every trial of a node without copies."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
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
_DIGEST, _PIXELS = pa.binary(32), pa.large_list_view(pa.uint8())
_COLUMNS = {
    "digest": _DIGEST,
    "image": (pa.uint8(), 3),
    "target": (pa.uint8(), 2),
    "spacing_mm": (pa.float32(), 1),
}
_NATIVE_COLUMNS = _COLUMNS | {"image": _PIXELS, "target": _PIXELS, "size": (pa.int32(), 1)}
"""Column -> its type; of tensors the type of values and the number of dimensions of a row."""

CasePixels = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]
"""Image `(C, H, W)`, target `(H, W)` and spacing `(2,)` in mm of one case."""


@dataclass(frozen=True)
class CaseTable(ABC):
    """What all tables of decoded cases have in common: which case is in which row.

    Attributes:
        digests: Case digests, ascending.
    """

    digests: tuple[str, ...]

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

    @abstractmethod
    def case(self, row: int) -> CasePixels:
        """Returns image, target and spacing of a row, as views."""


@dataclass(frozen=True)
class ImageTable(CaseTable):
    """Decoded cases at one size, in digest order. The arrays are views of a read-only file map.

    Attributes:
        images: uint8, `(N, C, H, W)`; C is 1 for grey sources and 3 for MRI.
        targets: uint8, `(N, H, W)`: 0 background, 255 structure, 127 ignored.
        spacing_mm: float32, `(N, 2)`: distance of rows and of columns at this size; NaN where unknown.
    """

    images: NDArray[np.uint8]
    targets: NDArray[np.uint8]
    spacing_mm: NDArray[np.float32]

    def case(self, row: int) -> CasePixels:
        """Returns image, target and spacing of a row, as views."""
        return self.images[row], self.targets[row], self.spacing_mm[row]


@dataclass(frozen=True)
class Ragged:
    """Pixels of many cases one after the other, in any order.

    Attributes:
        values: uint8, flat.
        starts: int64, `(N,)`: where each case begins.
    """

    values: NDArray[np.uint8]
    starts: NDArray[np.int64]

    def view(self, row: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Returns the pixels of a row without a copy."""
        start = int(self.starts[row])
        return self.values[start : start + math.prod(shape)].reshape(shape)


@dataclass(frozen=True)
class NativeTable(CaseTable):
    """Decoded cases at the size that they have, in digest order; views of a read-only file map.

    Attributes:
        channels: Of every image: 1 for grey sources and 3 for MRI.
        sizes: int32, `(N, 2)`: height and width in px.
        spacing_mm: float32, `(N, 2)`: distance of native rows and columns; NaN where unknown.
        images: All images' pixels.
        targets: All targets' pixels.
    """

    channels: int
    sizes: NDArray[np.int32]
    spacing_mm: NDArray[np.float32]
    images: Ragged
    targets: Ragged

    def size(self, row: int) -> tuple[int, int]:
        """Returns height and width of a row, px."""
        return int(self.sizes[row, 0]), int(self.sizes[row, 1])

    def image(self, row: int) -> NDArray[np.uint8]:
        """Returns the image of a row, uint8 `(C, H, W)`, a view."""
        return self.images.view(row, (self.channels, *self.size(row)))

    def target(self, row: int) -> NDArray[np.uint8]:
        """Returns the target of a row, uint8 `(H, W)`, a view: 0 background, 255 structure, 127 ignored."""
        return self.targets.view(row, self.size(row))

    def case(self, row: int) -> CasePixels:
        """Returns image, target and spacing of a row, as views."""
        return self.image(row), self.target(row), self.spacing_mm[row]


def read_table(path: Path) -> ImageTable:
    """Maps a table that `write_table` wrote.

    Raises:
        pyarrow.ArrowException: If the file is torn or of another kind.
        ValueError: Likewise.
        OSError: If the file cannot be opened.
    """
    batch = _mapped(path, _COLUMNS)
    return ImageTable(
        _digests(batch),
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
    columns = [
        _digest_column(table),
        _tensors(table.images, pa.uint8()),
        _tensors(table.targets, pa.uint8()),
        _tensors(table.spacing_mm, pa.float32()),
    ]
    _write(path, pa.RecordBatch.from_arrays(columns, names=list(_COLUMNS)))


def read_native_table(path: Path) -> NativeTable:
    """Maps a table that `write_native_table` wrote.

    Raises:
        pyarrow.ArrowException: If the file is torn or of another kind.
        ValueError: Likewise.
        OSError: If the file cannot be opened.
    """
    batch = _mapped(path, _NATIVE_COLUMNS)
    image, target = (batch.column(name) for name in ("image", "target"))
    sizes = batch.column("size").to_numpy_ndarray()
    channels = image.sizes[0].as_py() // max(target.sizes[0].as_py(), 1)
    images, targets = (Ragged(one.values.to_numpy(), one.offsets.to_numpy()) for one in (image, target))
    if not (_fits(images, sizes, channels) and _fits(targets, sizes, 1)):
        raise pa.ArrowInvalid(f"{path}: images and sizes do not fit")
    return NativeTable(
        _digests(batch), channels, sizes, batch.column("spacing_mm").to_numpy_ndarray(), images, targets
    )


def write_native_table(path: Path, table: NativeTable) -> None:
    """Writes a table of cases of any size; otherwise as `write_table`.

    Raises:
        OSError: If the disk is full or not writable.
    """
    pixels = table.sizes.astype(np.int64).prod(axis=1)
    columns = [
        _digest_column(table),
        _list_views(table.images, pixels * table.channels),
        _list_views(table.targets, pixels),
        _tensors(table.spacing_mm, pa.float32()),
        _tensors(table.sizes, pa.int32()),
    ]
    _write(path, pa.RecordBatch.from_arrays(columns, names=list(_NATIVE_COLUMNS)))


def _mapped(path: Path, columns: Mapping[str, Any]) -> Any:
    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    found = {field.name: _kind(field.type) for field in batch.schema}
    if found != columns or batch.schema.names != list(columns) or not batch.num_rows:
        raise pa.ArrowInvalid(f"{path}: columns {found} are not {columns}")
    if any(column.null_count for column in batch.columns):
        raise pa.ArrowInvalid(f"{path}: values are missing")
    return batch


def _kind(found: Any) -> Any:
    if isinstance(found, pa.FixedShapeTensorType):
        return found.value_type, len(found.shape)
    return found


def _fits(ragged: Ragged, sizes: NDArray[np.int32], channels: int) -> bool:
    """Whether the pixels of every row lie within those that are there."""
    lengths = sizes.astype(np.int64).prod(axis=1) * channels
    inside = (ragged.starts >= 0) & (ragged.starts <= len(ragged.values) - lengths)
    return bool(channels > 0 and (sizes > 0).all() and inside.all())


def _digests(batch: Any) -> tuple[str, ...]:
    return tuple(digest.hex() for digest in batch.column("digest").to_pylist())


def _digest_column(table: CaseTable) -> Any:
    digests = b"".join(map(bytes.fromhex, table.digests))
    return pa.Array.from_buffers(_DIGEST, len(table.digests), [None, pa.py_buffer(digests)])


def _write(path: Path, batch: Any) -> None:
    with open(path, "wb") as file:
        with pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        file.flush()
        os.fsync(file.fileno())


def _tensors(array: NDArray[Any], kind: Any) -> Any:
    """The rows of a contiguous array as Arrow tensors, without a copy."""
    values = _flat(kind, array)
    rows = pa.FixedSizeListArray.from_arrays(values, array[0].size)
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(kind, array.shape[1:]), rows)


def _list_views(ragged: Ragged, lengths: NDArray[np.int64]) -> Any:
    """Rows that lie anywhere in one flat array, as Arrow list views, without a copy."""
    values = _flat(pa.uint8(), ragged.values)
    kind = pa.large_list_view(pa.uint8())
    buffers = [None, pa.py_buffer(ragged.starts), pa.py_buffer(lengths)]
    return pa.Array.from_buffers(kind, len(lengths), buffers, children=[values])


def _flat(kind: Any, array: NDArray[Any]) -> Any:
    return pa.Array.from_buffers(kind, array.size, [None, pa.py_buffer(array)])
