"""Reading what happened. A file that does not verify counts as absent where a rerun mends it."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from xferlab.errors import RecordError
from xferlab.plan.spec import PLAN_VERSION
from xferlab.records import codec, layout
from xferlab.records.schema import EpochResult, EvaluationRecord, FeaturesRecord, TrialRecord
from xferlab.records.store import Store


def read_plan(store: Store, study: str) -> dict[str, Any]:
    """Returns the last plan document of a study.

    Raises:
        RecordError: There is none, it is damaged, or another version of xferlab wrote it.
    """
    document = codec.read_json(store, layout.plan_path(study))
    if document is None:
        known = ", ".join(store.list("studies")) or "none"
        raise RecordError(f"{store.shown}: no plan of study {study!r} (studies here: {known})")
    if document.get("version") != PLAN_VERSION:
        raise RecordError(
            f"{store.shown}: the plan of study {study!r} has version {document.get('version')}, and this "
            f"xferlab reads {PLAN_VERSION}; plan the study again, or use the xferlab that wrote it"
        )
    return document


def read_trial(store: Store, trial_id: str) -> TrialRecord | None:
    """Returns the record of a complete training; None where it is absent, damaged, or lacks its weights.

    Raises:
        RecordError: Another version of xferlab wrote it.
    """
    body = _lenient(store, layout.record_path(trial_id))
    if not body:
        return None
    record = TrialRecord.from_json(body)
    present = store.size(layout.weights_path(trial_id)) == record.weights_bytes
    return record if present and record.trial_id == trial_id else None


def read_evaluation(store: Store, trial_id: str, evaluation_id: str) -> EvaluationRecord | None:
    """Returns the record of a complete evaluation; None where it is absent or damaged.

    Raises:
        RecordError: Another version of xferlab wrote it.
    """
    body = _lenient(store, layout.evaluation_path(trial_id, evaluation_id, "record.json"))
    record = EvaluationRecord.from_json(body) if body else None
    return record if record and (record.trial_id, record.evaluation_id) == (trial_id, evaluation_id) else None


def read_cases(store: Store, record: EvaluationRecord) -> pa.Table:
    """Returns the rows of an evaluation, one per case and metric (`CASES_SCHEMA`)."""
    name = layout.evaluation_path(record.trial_id, record.evaluation_id, "cases.parquet")
    return codec.read_parquet(store, name, sha256=record.cases_sha256)


def read_outputs(store: Store, record: EvaluationRecord) -> pa.Table:
    """Returns the stored pixels of an evaluation (`OUTPUTS_SCHEMA`)."""
    name = layout.evaluation_path(record.trial_id, record.evaluation_id, "outputs.parquet")
    return codec.read_parquet(store, name, sha256=record.outputs_sha256)


def read_features_record(store: Store, trial_id: str, features_id: str) -> FeaturesRecord | None:
    """Returns the record of a trial's stored deep features; None where it is absent or damaged.

    Raises:
        RecordError: Another version of xferlab wrote it.
    """
    body = _lenient(store, layout.features_path(trial_id, features_id, "record.json"))
    record = FeaturesRecord.from_json(body) if body else None
    return record if record and (record.trial_id, record.features_id) == (trial_id, features_id) else None


def read_features(store: Store, record: FeaturesRecord) -> pa.Table:
    """Returns the stored deep features of a trial, one row per layer (`FEATURES_SCHEMA`)."""
    name = layout.features_path(record.trial_id, record.features_id, "features.parquet")
    return codec.read_parquet(store, name, sha256=record.features_sha256)


def read_history(store: Store, trial_id: str) -> list[EpochResult]:
    """Returns one result an epoch, in order; a torn last line is dropped.

    Raises:
        RecordError: A line before the last is damaged; says which.
    """
    name = layout.history_path(trial_id)
    lines = (store.read(name) or b"").splitlines(keepends=True)
    results: dict[int, EpochResult] = {}
    for number, line in enumerate(lines, start=1):
        try:
            result = EpochResult(**json.loads(line))
        except (ValueError, TypeError) as error:
            if number == len(lines):
                break
            raise RecordError(f"{store.path(name)}:{number}: is damaged ({error})") from error
        results[result.epoch] = result
    return [results[epoch] for epoch in sorted(results)]


def read_run(store: Store, trial_id: str) -> dict[str, Any]:
    """Returns `run.json`: attempts, times, memory, host, versions; empty where it is absent or damaged."""
    return _lenient(store, layout.run_path(trial_id))


def read_failure(store: Store, trial_id: str) -> dict[str, Any] | None:
    """Returns the last failure of a trial that is not complete; None where there is none."""
    return _lenient(store, layout.failure_path(trial_id)) or None


def _lenient(store: Store, name: str) -> dict[str, Any]:
    try:
        return codec.read_json(store, name) or {}
    except RecordError:
        return {}
