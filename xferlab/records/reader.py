"""Reading what happened.

Content is verified whenever it is read. A record or table that does not match its digest is set aside: from
then on its trial is not complete, and the next run writes it again.
"""

from __future__ import annotations

import logging
from typing import Any, TypeVar

import pyarrow as pa

from xferlab.cohort import Selection
from xferlab.errors import OtherVersionError, RecordError, other_version
from xferlab.plan.spec import PLAN_VERSION, TrialSpec
from xferlab.records import codec
from xferlab.records.layout import STUDIES, StudyFiles, TrialFiles, selection_path
from xferlab.records.schema import (
    CaseOutputs,
    EpochResult,
    EvaluationRecord,
    FeaturesRecord,
    MeasurementRecord,
    Record,
    TrialRecord,
    history_sha256,
)
from xferlab.records.store import Store

log = logging.getLogger("xferlab.records")

Kind = TypeVar("Kind", bound=Record)
_CURVE = (
    "Only learning curves read it. To restore it, delete the record.json beside it and run the study again, "
    "which trains that trial again"
)
_WRITTEN_AGAIN = "run the study again, which writes it again"
EARLIER_PLANS = (3,)
"""Versions of plans whose trials are of the present version: the plan of the next run replaces them."""


def read_plan(store: Store, study: str) -> dict[str, Any]:
    """Returns the last plan document of a study.

    Raises:
        RecordError: There is none, it is damaged, or another version of xferlab wrote it.
    """
    name = StudyFiles(study).plan
    document = codec.read_json(store, name)
    if document is None:
        planned = [other for other in store.list(STUDIES) if store.exists(StudyFiles(other).plan)]
        known = ", ".join(planned) or "none"
        raise RecordError(f"{store.shown}: no plan of study {study!r} (studies here: {known})")
    if document.get("study", study) != study:
        raise RecordError(
            f"{store.path(name)}: is the plan of study {document['study']!r}; run study {study!r} again"
        )
    version, what = document.get("version"), f"{store.shown}: the plan of study {study!r}"
    if version in EARLIER_PLANS:
        raise RecordError(
            f"{what} has version {version}, and this xferlab needs version {PLAN_VERSION}; run the "
            "study again, which writes its plan again and keeps its complete trials"
        )
    if version != PLAN_VERSION:
        raise other_version(what, version, PLAN_VERSION, storage=store.shown)
    return document


def read_selection(store: Store, digest: str) -> Selection:
    """Returns a stored selection. An altered one is set aside, so that the next run writes it again.

    Raises:
        RecordError: It is missing, or differs from its digest.
    """
    name = selection_path(digest)
    try:
        body = codec.read_json(store, name)
        selection = Selection.from_json(body) if body is not None else None
        if selection is not None and selection.identity() == digest:
            return selection
    except (RecordError, LookupError, TypeError):
        pass
    if store.exists(name):
        raise codec.set_aside(store, name, "is altered", remedy=_WRITTEN_AGAIN)
    raise RecordError(f"{store.path(name)}: is missing; {_WRITTEN_AGAIN}")


def read_trial(store: Store, trial_id: str) -> TrialRecord | None:
    """Returns the record of a complete training; None where it is absent, damaged, or lacks its weights.

    Only the size of the weights is compared here; whoever loads them compares their digest.

    Raises:
        RecordError: Another version of xferlab wrote it.
    """
    files = TrialFiles(trial_id)
    record = read_record(store, files.record, TrialRecord, trial_id=trial_id)
    return record if record and store.size(files.weights) == record.weights_bytes else None


def read_evaluation(store: Store, trial_id: str, evaluation_id: str) -> EvaluationRecord | None:
    """Returns the record of an evaluation; None where it is absent or damaged. Its tables are not read.

    Raises:
        RecordError: Another version of xferlab wrote it.
    """
    name = TrialFiles(trial_id).evaluation(evaluation_id).record
    return read_record(store, name, EvaluationRecord, trial_id=trial_id, evaluation_id=evaluation_id)


def read_features_record(store: Store, trial_id: str, features_id: str) -> FeaturesRecord | None:
    """Returns the record of a trial's stored deep features; None where it is absent or damaged.

    Raises:
        RecordError: Another version of xferlab wrote it.
    """
    name = TrialFiles(trial_id).features(features_id).record
    return read_record(store, name, FeaturesRecord, trial_id=trial_id, features_id=features_id)


def is_whole(store: Store, record: MeasurementRecord | None, weights: str) -> bool:
    """Returns whether a record is there, is of these weights (SHA-256), and its tables match their digests.

    Lost weights that another device trains again have other bits.
    """
    if record is None or record.weights_sha256 != weights:
        return False
    for name, sha256 in record.tables.items():
        path = record.files.table(name)
        if not store.leaves_out(path) and not codec.matches(store.read(path), sha256):
            log.warning("%s: is missing, or does not match the digest in its record", store.path(path))
            return False
    return True


def read_cases(store: Store, record: EvaluationRecord) -> pa.Table:
    """Returns the rows of an evaluation, one per case and metric (`CASES_SCHEMA`).

    Raises:
        RecordError: The table is missing, or does not match its record; it is set aside then.
    """
    return read_table(store, record, "cases")


def read_outputs(store: Store, record: EvaluationRecord) -> list[CaseOutputs]:
    """Returns the stored arrays of an evaluation, in the order of the cases; none in an archive.

    Raises:
        RecordError: The table is missing, or does not match its record; it is set aside then.
    """
    if store.leaves_out(record.files.table("outputs")):
        return []
    return CaseOutputs.from_table(read_table(store, record, "outputs"))


def read_pictures(store: Store, record: EvaluationRecord) -> dict[str, bytes]:
    """Returns the stored pictures of an evaluation (JPEG), by the digest of the case; empty without any.

    Raises:
        RecordError: The table is missing, or does not match its record; it is set aside then.
    """
    if "pictures" not in record.tables or store.leaves_out(record.files.table("pictures")):
        return {}
    table = read_table(store, record, "pictures")
    return dict(zip(table["case"].to_pylist(), table["picture"].to_pylist(), strict=True))


def read_features(store: Store, record: FeaturesRecord) -> pa.Table:
    """Returns the stored deep features of a trial, one row per layer (`FEATURES_SCHEMA`).

    Raises:
        RecordError: The table is missing, or does not match its record; it is set aside then.
    """
    return read_table(store, record, "features")


def read_table(store: Store, record: MeasurementRecord, name: str) -> pa.Table:
    """Returns a table of a record.

    Raises:
        RecordError: It is missing, or does not match its record; it is set aside then.
    """

    def stays() -> bool:  # whoever writes the table again deletes its record first
        return read_record(store, record.files.record, type(record)) == record

    return codec.read_parquet(store, record.files.table(name), sha256=record.tables[name], holds=stays)


def read_spec(store: Store, trial_id: str) -> TrialSpec | None:
    """Returns what is needed to run a trial again; None where it is absent or damaged.

    Raises:
        RecordError: Another version of xferlab wrote it.
    """
    body = read_undamaged(store, TrialFiles(trial_id).spec)
    return TrialSpec.from_json(body) if body.get("trial_id") == trial_id else None


def required_spec(store: Store, trial_id: str) -> TrialSpec:
    """Returns what `read_spec` does.

    Raises:
        RecordError: It is absent or damaged, or another version of xferlab wrote it.
    """
    spec = read_spec(store, trial_id)
    if spec is None:
        raise RecordError(f"{store.path(TrialFiles(trial_id).spec)}: is missing or damaged; {_WRITTEN_AGAIN}")
    return spec


def read_history(store: Store, trial_id: str, *, sha256: str | None = None) -> list[EpochResult]:
    """Returns one result an epoch, in order.

    Args:
        store: The storage.
        trial_id: The trial.
        sha256: `TrialRecord.history_sha256` of a complete trial, to find a history that lacks epochs.

    Raises:
        RecordError: A line is damaged (says which, and its first byte), missing, or the digest differs.
    """
    files = TrialFiles(trial_id)
    name, data = files.history, store.read(files.history)
    if data is None and (data := store.read(files.progress)) is not None:
        name = files.progress
    path, epochs = store.path(name), list[EpochResult]()
    lines = (data or b"").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            epochs.append(EpochResult(**codec.checked(line)))
        except (ValueError, TypeError) as error:
            offset = sum(map(len, lines[: number - 1]))
            raise RecordError(f"{path}:{number} (byte {offset}): is damaged ({error}). {_CURVE}") from error
    in_order = [result.epoch for result in epochs] == list(range(1, len(epochs) + 1))
    if not in_order or (sha256 is not None and history_sha256(epochs) != sha256):
        raise RecordError(f"{path}: its {len(epochs)} epochs are not those of the record. {_CURVE}")
    return epochs


def read_run(store: Store, trial_id: str) -> dict[str, Any]:
    """Returns `run.json`: attempts, times, memory, host, versions; empty where it is absent or damaged."""
    name = TrialFiles(trial_id).run
    body = read_undamaged(store, name)
    if body.pop("trial_id", trial_id) != trial_id:
        log.warning("%s: belongs to another trial; left out", store.path(name))
        return {}
    return body


def read_failure(store: Store, trial_id: str) -> dict[str, Any] | None:
    """Returns the last failure of a trial that is not complete; None where there is none."""
    return read_undamaged(store, TrialFiles(trial_id).failure) or None


def read_record(store: Store, name: str, kind: type[Kind], **ids: str) -> Kind | None:
    """Returns a record that has these ids; None where it is absent. Anything else is set aside.

    Raises:
        RecordError: Another version of xferlab wrote it.
    """
    data = store.read(name)
    if data is None:
        return None
    try:
        body = codec.checked(data)
        record = kind.from_json(body) if isinstance(body.get("version"), int) else None
    except (ValueError, TypeError):
        record = None
    except OtherVersionError as error:
        raise OtherVersionError(f"{store.path(name)}: {error}") from error
    if record is None or any(getattr(record, key) != value for key, value in ids.items()):
        log.warning("%s", codec.set_aside(store, name, "is damaged, or belongs to something else"))
        return None
    return record


def read_undamaged(store: Store, name: str) -> dict[str, Any]:
    """Returns the body of a JSON file; empty where it is absent, or damaged, which a warning says."""
    try:
        return codec.read_json(store, name) or {}
    except RecordError as error:
        log.warning("%s; left out", error)
        return {}
