"""Writing what happened, each file atomically, the record last."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import pyarrow as pa

from xferlab.records import codec
from xferlab.records.layout import TrialFiles
from xferlab.records.schema import (
    OUTPUTS_SCHEMA,
    CaseOutputs,
    EpochResult,
    MeasurementRecord,
    TrialRecord,
)
from xferlab.records.store import Store

REMOTE_HISTORY_EVERY_S = 10.0

Measured = TypeVar("Measured", bound=MeasurementRecord)


class HistoryFile:
    """One line an epoch: `progress.jsonl` while a trial trains, `history.jsonl` as a whole at its end.

    Two files, since another execution of the trial may be ahead, or complete: this one may write what it has,
    and be killed, without taking anything from a whole history. Progress is written again as a whole: each
    epoch on a local storage, at most every 10 s on an object store.
    """

    def __init__(self, store: Store, trial_id: str, kept: Iterable[EpochResult] = ()):
        """Starts the file from `kept`, the epochs that the checkpoint holds."""
        self._store, self._files = store, TrialFiles(trial_id)
        self._lines = [_line(result) for result in kept]
        self._flush()

    def append(self, result: EpochResult) -> None:
        """Adds one epoch."""
        self._lines.append(_line(result))
        if self._store.is_local or time.monotonic() - self._written_at >= REMOTE_HISTORY_EVERY_S:
            self._flush()

    def finish(self) -> None:
        """Writes the whole history."""
        self._store.write(self._files.history, b"".join(self._lines))
        self._store.delete(self._files.progress)

    def _flush(self) -> None:
        self._store.write(self._files.progress, b"".join(self._lines))
        self._written_at = time.monotonic()


def _line(result: EpochResult) -> bytes:
    return codec.json_bytes(result.to_json())


def write_trial(store: Store, record: TrialRecord) -> None:
    """Writes the record that makes a training complete."""
    codec.write_json(store, TrialFiles(record.trial_id).record, record.to_json())


def write_measurement(store: Store, record: Measured, tables: Mapping[str, bytes]) -> Measured:
    """Writes the tables of an evaluation or of deep features, then their record.

    A record of other tables goes first. An equal one stays, also one that another execution writes meanwhile:
    a late execution takes nothing from a trial.

    Args:
        store: The storage.
        record: Without the digests of its tables.
        tables: Parquet bytes by name: `cases`, `outputs` and `pictures`, or `features`.

    Returns:
        The record with the digests.
    """
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in tables.items()}
    record = replace(record, tables=digests)
    if store.read(record.files.record) not in (None, codec.json_bytes(record.to_json())):
        store.delete(record.files.record)
    for name, content in tables.items():
        store.write(record.files.table(name), content)
    codec.write_json(store, record.files.record, record.to_json())
    return record


def write_run(store: Store, trial_id: str, body: Mapping[str, Any]) -> None:
    """Writes what is not a function of the spec."""
    codec.write_json(store, TrialFiles(trial_id).run, {**body, "trial_id": trial_id})


def outputs_table(cases: Iterable[CaseOutputs]) -> bytes:
    """Returns parquet bytes of the stored arrays of cases (`OUTPUTS_SCHEMA`)."""
    rows = [row for case in cases for row in case.rows()]
    return codec.parquet_bytes(pa.Table.from_pylist(rows, OUTPUTS_SCHEMA))


def table(schema: pa.Schema, columns: Mapping[str, list[Any]]) -> bytes:
    """Returns parquet bytes of columns in a schema; dictionary columns are encoded in order of appearance."""
    return codec.parquet_bytes(pa.Table.from_pydict(columns, schema))
