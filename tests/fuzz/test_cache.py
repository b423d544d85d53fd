"""Whatever the bytes of a table of the image cache are: arrays of the right shapes, or it is built anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.fuzz.mutations import feed, mutated
from xferlab.data.arrow_table import (
    ImageTable,
    NativeTable,
    Ragged,
    read_native_table,
    read_table,
    write_native_table,
    write_table,
)

DIGESTS = tuple(f"{number:064x}" for number in range(3))
PIXELS, BLANK = np.arange(192, dtype=np.uint8), np.zeros(192, np.uint8)
SPACING = np.ones((3, 2), np.float32)


def square(path: Path) -> Callable[[Path], ImageTable]:
    write_table(path, ImageTable(DIGESTS, PIXELS.reshape(3, 1, 8, 8), BLANK.reshape(3, 8, 8), SPACING))
    return read_table


def native(path: Path) -> Callable[[Path], NativeTable]:
    starts, sizes = np.array([0, 64, 128]), np.full((3, 2), 8, np.int32)
    images, targets = Ragged(PIXELS, starts), Ragged(BLANK, starts)
    write_native_table(path, NativeTable(DIGESTS, 1, sizes, SPACING, images, targets))
    return read_native_table


@pytest.mark.parametrize("write", [square, native])
def test_tables(
    tmp_path: Path, write: Callable[[Path], Callable[[Path], ImageTable | NativeTable]], examples: int
) -> None:
    reads = write(tmp_path / "whole.arrow")
    path = tmp_path / "x.arrow"

    def read(data: bytes) -> bool:
        path.unlink(missing_ok=True)  # a file that is mapped is not written over
        path.write_bytes(data)
        try:
            table = reads(path)
        except (OSError, ValueError, pa.ArrowException):  # what `Form.read_or_none` takes for no table
            return False
        for row in range(len(table.digests)):
            image, target, spacing_mm = table.case(row)
            assert image.shape[1:] == target.shape
            assert spacing_mm.shape == (2,)
            assert int(image.sum()) + int(target.sum()) >= 0  # every byte can be reached
        return True

    whole = (tmp_path / "whole.arrow").read_bytes()
    assert read(whole)
    assert feed(mutated([whole]), read, examples=examples).refused


def test_a_row_without_a_digest_is_no_table(tmp_path: Path) -> None:
    square(tmp_path / "whole.arrow")
    with pa.OSFile(str(tmp_path / "whole.arrow")) as file:
        batch = pa.ipc.open_file(file).get_batch(0)
    digests = pa.array([None, *batch.column("digest").to_pylist()[1:]], pa.binary(32))
    with pa.ipc.new_file(str(tmp_path / "x.arrow"), batch.schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([digests, *batch.columns[1:]], schema=batch.schema))
    with pytest.raises(pa.ArrowInvalid, match="values are missing"):
        read_table(tmp_path / "x.arrow")
