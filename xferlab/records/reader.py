"""Reading what happened. A file that does not verify counts as absent where a rerun mends it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from xferlab.cohort import Selection
from xferlab.errors import RecordError
from xferlab.plan.spec import PLAN_VERSION
from xferlab.records import codec, layout
from xferlab.records.schema import (
    CaseOutputs,
    EpochResult,
    EvaluationRecord,
    FeaturesRecord,
    TrialRecord,
    history_sha256,
)
from xferlab.records.store import Store

log = logging.getLogger("xferlab.records")

Kind = TypeVar("Kind", covariant=True)
_CURVE = (
    "Only learning curves read it. To have it again, delete the record.json beside it and run the study "
    "again, which trains that trial again"
)


def read_plan(store: Store, study: str) -> dict[str, Any]:
    """Returns the last plan document of a study.

    Raises:
        RecordError: There is none, it is damaged, or another version of xferlab wrote it.
    """
    document = codec.read_json(store, layout.plan_path(study))
    if document is None:
        planned = [name for name in store.list("studies") if store.exists(layout.plan_path(name))]
        known = ", ".join(planned) or "none"
        raise RecordError(f"{store.shown}: no plan of study {study!r} (studies here: {known})")
    if document.get("study", study) != study:
        raise RecordError(
            f"{store.path(layout.plan_path(study))}: is the plan of study {document['study']!r}; run or plan "
            f"study {study!r} again"
        )
    if document.get("version") != PLAN_VERSION:
        raise RecordError(
            f"{store.shown}: the plan of study {study!r} has version {document.get('version')}, and this "
            f"xferlab reads {PLAN_VERSION}; plan the study again, or use the xferlab that wrote it"
        )
    return document


def read_selection(store: Store, digest: str) -> Selection:
    """Returns a stored selection. An altered one is set aside, so that a rerun writes it again.

    Raises:
        RecordError: It is absent or differs from its digest.
    """
    name = layout.selection_path(digest)
    selection, reason = None, "missing"
    try:
        body = codec.read_json(store, name)
        selection = Selection.from_json(body) if body is not None else None
        whole = selection is not None and selection.identity() == digest
    except (RecordError, LookupError, TypeError):
        whole, selection = False, None
    if selection is not None and whole:
        return selection
    if store.exists(name):
        reason = f"altered, and is now {store.set_aside(name)}"
    raise RecordError(f"{store.path(name)}: is {reason}; run the study again, which writes it anew")


def read_trial(store: Store, trial_id: str) -> TrialRecord | None:
    """Returns the record of a complete training; None where it is absent, damaged, or lacks its weights.

    Of the weights only the size is looked at here; whoever loads them compares their digest.

    Raises:
        RecordError: Another version of xferlab wrote it.
    """
    record = _record(store, layout.record_path(trial_id), TrialRecord)
    if record is None or record.trial_id != trial_id:
        return None
    present = store.size(layout.weights_path(trial_id)) == record.weights_bytes
    return record if present else None


def read_evaluation(store: Store, trial_id: str, evaluation_id: str) -> EvaluationRecord | None:
    """Returns the record of an evaluation; None where it is absent or damaged. Its tables are not looked at.

    Raises:
        RecordError: Another version of xferlab wrote it.
    """
    name = layout.evaluation_path(trial_id, evaluation_id, "record.json")
    record = _record(store, name, EvaluationRecord)
    return record if record and (record.trial_id, record.evaluation_id) == (trial_id, evaluation_id) else None


def read_whole_evaluation(
    store: Store, trial_id: str, evaluation_id: str, *, weights: str
) -> EvaluationRecord | None:
    """Returns the record of an evaluation of these weights (SHA-256) whose tables match their digests.

    None for any other: weights that were lost come back with other bits where another device trains them.

    Raises:
        RecordError: Another version of xferlab wrote it.
    """
    record = read_evaluation(store, trial_id, evaluation_id)
    if record is None or record.weights_sha256 != weights:
        return None
    digests = {"cases.parquet": record.cases_sha256, "outputs.parquet": record.outputs_sha256}
    name = partial(layout.evaluation_path, trial_id, evaluation_id)
    whole = all(_is_whole(store, name(file), digest) for file, digest in digests.items())
    return record if whole else None


def read_cases(store: Store, record: EvaluationRecord) -> pa.Table:
    """Returns the rows of an evaluation, one per case and metric (`CASES_SCHEMA`)."""
    name = layout.evaluation_path(record.trial_id, record.evaluation_id, "cases.parquet")
    return codec.read_parquet(store, name, sha256=record.cases_sha256)


def read_outputs(store: Store, record: EvaluationRecord) -> list[CaseOutputs]:
    """Returns the stored arrays of an evaluation, in the order of the cases."""
    name = layout.evaluation_path(record.trial_id, record.evaluation_id, "outputs.parquet")
    return CaseOutputs.from_table(codec.read_parquet(store, name, sha256=record.outputs_sha256))


def read_features_record(store: Store, trial_id: str, features_id: str) -> FeaturesRecord | None:
    """Returns the record of a trial's stored deep features; None where it is absent or damaged.

    Raises:
        RecordError: Another version of xferlab wrote it.
    """
    name = layout.features_path(trial_id, features_id, "record.json")
    record = _record(store, name, FeaturesRecord)
    return record if record and (record.trial_id, record.features_id) == (trial_id, features_id) else None


def read_whole_features(
    store: Store, trial_id: str, features_id: str, *, weights: str
) -> FeaturesRecord | None:
    """Returns the record of deep features of these weights (SHA-256) whose table matches its digest, or None.

    Raises:
        RecordError: Another version of xferlab wrote it.
    """
    record = read_features_record(store, trial_id, features_id)
    if record is None or record.weights_sha256 != weights:
        return None
    name = layout.features_path(trial_id, features_id, "features.parquet")
    return record if _is_whole(store, name, record.features_sha256) else None


def read_features(store: Store, record: FeaturesRecord) -> pa.Table:
    """Returns the stored deep features of a trial, one row per layer (`FEATURES_SCHEMA`)."""
    name = layout.features_path(record.trial_id, record.features_id, "features.parquet")
    return codec.read_parquet(store, name, sha256=record.features_sha256)


def holds_spec(store: Store, trial_id: str) -> bool:
    """Returns whether the spec of a trial is stored and undamaged."""
    return _lenient(store, layout.spec_path(trial_id)).get("trial_id") == trial_id


def read_history(store: Store, trial_id: str, *, sha256: str | None = None) -> list[EpochResult]:
    """Returns one result an epoch, in order; a torn last line is dropped with a warning.

    Args:
        store: The storage.
        trial_id: Whose.
        sha256: `TrialRecord.history_sha256` of a complete trial, to tell a history that lacks epochs.

    Raises:
        RecordError: Another line is damaged (says which, and its first byte), or the digest differs.
    """
    name = layout.history_path(trial_id)
    data = store.read(name)
    if data is None and (data := store.read(layout.progress_path(trial_id))) is not None:
        name = layout.progress_path(trial_id)
    where, offset = store.path(name), 0
    results: dict[int, EpochResult] = {}
    *lines, rest = (data or b"").split(b"\n")
    for number, line in enumerate([*lines, rest] if rest else lines, start=1):
        try:
            result = _epoch(line)
        except (ValueError, TypeError, RecursionError) as error:
            place = f"{where}:{number} (byte {offset})"
            if number > len(lines):
                log.warning("%s: the last line is torn; left out", place)
                break
            raise RecordError(f"{place}: is damaged ({error}). {_CURVE}") from error
        results[result.epoch] = result
        offset += len(line) + 1
    epochs = [results[epoch] for epoch in sorted(results)]
    if sha256 is not None and history_sha256(epochs) != sha256:
        raise RecordError(f"{where}: its {len(epochs)} epochs are not those of the record. {_CURVE}")
    return epochs


def _epoch(line: bytes) -> EpochResult:
    result = EpochResult(**codec.unsealed(line + b"\n"))
    if not isinstance(result.epoch, int):
        raise TypeError(f"its epoch is {result.epoch!r}")
    return result


def read_run(store: Store, trial_id: str) -> dict[str, Any]:
    """Returns `run.json`: attempts, times, memory, host, versions; empty where it is absent or damaged."""
    body = _lenient(store, layout.run_path(trial_id))
    if body.pop("trial_id", trial_id) != trial_id:
        log.warning("%s: is that of another trial; left out", store.path(layout.run_path(trial_id)))
        return {}
    return body


def read_failure(store: Store, trial_id: str) -> dict[str, Any] | None:
    """Returns the last failure of a trial that is not complete; None where there is none."""
    return _lenient(store, layout.failure_path(trial_id)) or None


class _Kind(Protocol[Kind]):
    def from_json(self, value: Mapping[str, Any]) -> Kind: ...


def _record(store: Store, name: str, kind: _Kind[Kind]) -> Kind | None:
    body = _lenient(store, name)
    if not isinstance(body.get("version"), int):
        return None  # absent, damaged, or no record at all
    try:
        return kind.from_json(body)
    except TypeError:
        log.warning("%s: is a file of another kind; left out", store.path(name))
        return None
    except RecordError as error:
        raise RecordError(f"{store.path(name)}: {error}") from error


def _is_whole(store: Store, name: str, sha256: str) -> bool:
    data = store.read(name)
    if data is not None and not codec.matches(data, sha256):
        log.warning("%s: does not match the digest in its record; left out", store.path(name))
    return codec.matches(data, sha256)


def _lenient(store: Store, name: str) -> dict[str, Any]:
    try:
        return codec.read_json(store, name) or {}
    except RecordError as error:
        log.warning("%s; left out", error)
        return {}
