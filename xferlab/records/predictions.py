"""What trials predict for other trials: arrays of many cases, stored once and read by all who need them.

A prediction is never changed. Its table lies under its own digest, and its record, written last, is created
only where none is: of several that make it at once, the first wins, and what it wrote is whole.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xferlab.cohort import Selection
from xferlab.errors import RecordError
from xferlab.plan.identity import short_id
from xferlab.records import codec, reader
from xferlab.records.layout import MeasurementFiles, prediction_files
from xferlab.records.schema import MeasurementRecord
from xferlab.records.store import Store

log = logging.getLogger("xferlab.records")

PREDICTIONS_VERSION = 2
"""Raised when the same weights may give other arrays, or the table another layout."""
STRUCTURE = 255
"""Value of a structure in a mask; all else of it is 0."""

PREDICTIONS_SCHEMA = pa.schema(
    [
        ("case", pa.string()),  # digest of the case
        ("array", pa.string()),  # what the task calls it
        ("dtype", pa.string()),  # as NumPy writes it, such as <f4; |b1 for masks, which are stored as bits
        ("shape", pa.list_(pa.int32())),
        ("data", pa.binary()),  # row-major
    ]
)
"""One row per case and array, in the order of the cases."""

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class PredictionRecord(MeasurementRecord):
    """What a trial's best weights predict of some cases, with one table under its own digest.

    Attributes:
        prediction_id: Its identity.
        threshold: From which probability on a structure is there; None where none is predicted.
        variant: What was laid on the images, and its version; empty for the cases as they are.
        set_name: As which set of the trial's task they are predicted; empty for that which it is to predict.
    """

    prediction_id: str
    threshold: float | None
    variant: str = ""
    set_name: str = ""

    @property
    def files(self) -> MeasurementFiles:
        """Where it lies."""
        return prediction_files(self.prediction_id)

    @property
    def sha256(self) -> str:
        """Digest of its table."""
        (digest,) = self.tables.values()
        return digest


def wanted(
    trial_id: str,
    weights: str,
    digests: Sequence[str],
    *,
    threshold: float | None,
    variant: str = "",
    set_name: str = "",
) -> PredictionRecord:
    """Returns the record of a prediction before it is made: without the digest of its table.

    Args:
        trial_id: Whose weights predict.
        weights: SHA-256 of the weights.
        digests: The cases, in digest order.
        threshold: From which probability on a structure is there; None where none is predicted.
        variant: What is laid on the images, and its version; empty for the cases as they are.
        set_name: As which set of the trial's task they are predicted; empty for that which it is to predict.
    """
    selection = Selection.to_predict("", digests).identity()
    identity = [PREDICTIONS_VERSION, trial_id, weights, selection, threshold, variant]
    identity += [set_name] if set_name else []
    return PredictionRecord(
        prediction_id=short_id(identity),
        trial_id=trial_id,
        selection=selection,
        num_cases=len(digests),
        weights_sha256=weights,
        threshold=threshold,
        variant=variant,
        set_name=set_name,
    )


class PredictedCases:
    """The arrays of a stored prediction by case; masks stay packed until they are asked for."""

    def __init__(self, table: pa.Table):
        """Takes a table of `PREDICTIONS_SCHEMA`."""
        self._table = table
        self._rows: dict[str, list[int]] = {}
        for row, case in enumerate(table["case"].to_pylist()):
            self._rows.setdefault(case, []).append(row)

    def __getitem__(self, digest: str) -> Arrays:
        """Returns the arrays of a case by the task's names; masks are uint8, 0 and 255."""
        rows = (self._table.slice(row, 1).to_pylist()[0] for row in self._rows[digest])
        return {row["array"]: _unpacked(row) for row in rows}


def read(store: Store, asked: PredictionRecord) -> tuple[PredictionRecord, PredictedCases] | None:
    """Returns a stored prediction that is whole; None where it is absent or damaged, which sets it aside.

    Raises:
        RecordError: Another version of xferlab wrote it.
    """
    name = asked.files.record
    record = reader.read_record(store, name, PredictionRecord, prediction_id=asked.prediction_id)
    if record is None or replace(record, tables={}) != asked or len(record.tables) != 1:
        return None
    try:
        return record, PredictedCases(reader.read_table(store, record, *record.tables))
    except RecordError as error:
        log.warning("%s; it is predicted again", error)
        return None


def write(store: Store, asked: PredictionRecord, data: bytes) -> None:
    """Stores the table of a prediction, then its record, unless another process was faster."""
    sha256 = hashlib.sha256(data).hexdigest()
    record = replace(asked, tables={sha256[:16]: sha256})
    content = codec.json_bytes(record.to_json())
    store.write(record.files.table(sha256[:16]), data)
    # The table of a slower writer stays until the storage is pruned: another may be about to name it.
    if not store.create(record.files.record, content) and read(store, asked) is None:
        store.write(record.files.record, content)


def table_of(cases: Iterable[tuple[str, Arrays]]) -> bytes:
    """Returns parquet bytes of the arrays of cases, by digest; each case is packed as it comes."""
    rows = [row for digest, arrays in cases for row in _rows(digest, arrays)]
    return codec.parquet_bytes(pa.Table.from_pylist(rows, PREDICTIONS_SCHEMA))


def _rows(digest: str, arrays: Arrays) -> Iterator[dict[str, Any]]:
    for name, array in arrays.items():
        is_mask = array.dtype == np.uint8
        content = np.packbits(array == STRUCTURE) if is_mask else array
        kind = "|b1" if is_mask else array.dtype.str
        yield {
            "case": digest, "array": name, "dtype": kind, "shape": array.shape, "data": content.tobytes(),
        }  # fmt: skip


def _unpacked(row: Mapping[str, Any]) -> NDArray[Any]:
    shape = tuple(row["shape"])
    if row["dtype"] != "|b1":
        return np.frombuffer(row["data"], np.dtype(row["dtype"])).reshape(shape)
    bits = np.unpackbits(np.frombuffer(row["data"], np.uint8), count=int(np.prod(shape)))
    return (bits * np.uint8(STRUCTURE)).reshape(shape)
