"""Whether trials are complete: every record that their specs ask for exists and verifies.

A study's `index.json` holds, for each complete trial, the size and time of change of its files and its
headline values. One listing of the storage is compared with it: a trial whose files agree is complete, and
nothing of it is read. The records of all others are read and verified, and the index is renewed. Content is
verified whenever it is read: a reader that finds a damaged file sets it aside, and its trial is not complete
from then on. The index is a cache: it can be deleted, damaged or old, and two processes may write it at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict

import pyarrow as pa
from pydantic.dataclasses import dataclass

from xferlab.errors import StorageError
from xferlab.plan.spec import PlannedTrial
from xferlab.records import codec, reader
from xferlab.records.layout import TRIALS, StudyFiles, TrialFiles
from xferlab.records.schema import RECORD_VERSION
from xferlab.records.store import Store

INDEX_VERSION = [3, RECORD_VERSION]
"""Of the index, and of the records that it vouches for."""
_READERS = 16

FileStates = Mapping[str, tuple[int, int | None]]
"""Size in bytes and time of the last change (nanoseconds since the epoch) of files, by name."""


@dataclass(frozen=True)
class CompleteTrial:
    """What the index holds of a complete trial.

    Attributes:
        files: Its record, spec, weights, and the records and tables of its measurements.
        num_epochs: Epochs trained.
        best_score: That of the epoch whose weights were kept; None where the task has none.
        stopped_by: `patience` or `max_epochs`.
        means: Mean of each metric over the images where it is finite, of those that passed a gate if
            there is one, by evaluation id.
    """

    files: FileStates
    num_epochs: int
    best_score: float | None
    stopped_by: str
    means: Mapping[str, Mapping[str, float]]


def complete_trials(store: Store, study: str, specs: Iterable[PlannedTrial]) -> dict[str, CompleteTrial]:
    """Returns the complete trials of a study by id, from one listing where the index knows them.

    Raises:
        RecordError: Another version of xferlab wrote a record.
        StorageError: The storage cannot be listed or read.
    """
    listing = {name: (info.size, info.mtime_ns) for name, info in store.walk(TRIALS)}
    index = _read_index(store, study)
    complete: dict[str, CompleteTrial] = {}
    changed: list[tuple[PlannedTrial, FileStates]] = []
    for spec in specs:
        if TrialFiles(spec.trial_id).record not in listing:
            continue  # of most trials of a large study that begins, nothing is there
        names, pictures = _file_names(spec), _may_have(spec)
        if not listing.keys() >= names:
            continue
        files = {name: listing[name] for name in sorted(names | pictures & listing.keys())}
        indexed = index.get(spec.trial_id)
        lost = pictures & indexed.files.keys() - listing.keys() if indexed else set[str]()
        if indexed is not None and files.items() <= indexed.files.items() and not lost:
            complete[spec.trial_id] = indexed
        else:
            changed.append((spec, files))
    with ThreadPoolExecutor(_READERS) as pool:
        verified = list(pool.map(lambda trial: _verified(store, *trial), changed))
    renewed = {spec.trial_id: trial for (spec, _), trial in zip(changed, verified, strict=True) if trial}
    if renewed:
        kept = {
            trial_id: trial for trial_id, trial in index.items() if TrialFiles(trial_id).record in listing
        }
        _write_index(store, study, {**kept, **renewed})
    return {**complete, **renewed}


def is_complete(store: Store, spec: PlannedTrial) -> bool:
    """Returns whether the training and every measurement that the spec asks for have a valid record."""
    record = reader.read_trial(store, spec.trial_id)
    return record is not None and is_measured(store, spec, record.weights_sha256)


def is_measured(store: Store, spec: PlannedTrial, weights: str) -> bool:
    """Returns whether the spec, and all that it asks for of these weights (SHA-256), are stored and whole."""
    records = [
        reader.read_evaluation(store, spec.trial_id, asked.evaluation_id) for asked in spec.evaluations
    ]
    return (
        reader.read_undamaged(store, TrialFiles(spec.trial_id).spec).get("trial_id") == spec.trial_id
        and all(reader.is_whole(store, record, weights) for record in records)
        and not lacks_features(store, spec, weights)
    )


def lacks_features(store: Store, spec: PlannedTrial, weights: str) -> bool:
    """Returns whether deep features are asked for and not stored as their record says."""
    if spec.features is None:
        return False
    record = reader.read_features_record(store, spec.trial_id, spec.features.features_id)
    return not reader.is_whole(store, record, weights)


def _file_names(spec: PlannedTrial) -> set[str]:
    """Returns the files without which a trial is not complete."""
    files = TrialFiles(spec.trial_id)
    names = {files.record, files.spec, files.weights}
    for evaluation in spec.evaluations:
        measured = files.evaluation(evaluation.evaluation_id)
        names |= {measured.record, measured.table("cases"), measured.table("outputs")}
    if spec.features is not None:
        extracted = files.features(spec.features.features_id)
        names |= {extracted.record, extracted.table("features")}
    return names


def _may_have(spec: PlannedTrial) -> set[str]:
    """Returns files that a complete trial may lack, if it never had them."""
    files = TrialFiles(spec.trial_id)
    return {files.evaluation(each.evaluation_id).table("pictures") for each in spec.evaluations}


def _verified(store: Store, spec: PlannedTrial, files: FileStates) -> CompleteTrial | None:
    """Reads all that a trial has stored; None if it is not complete."""
    record = reader.read_trial(store, spec.trial_id)
    if record is None or not is_measured(store, spec, record.weights_sha256):
        return None
    ids = [evaluation.evaluation_id for evaluation in spec.evaluations]
    means = {evaluation_id: _means(store, spec.trial_id, evaluation_id) for evaluation_id in ids}
    return CompleteTrial(files, record.num_epochs, record.best_score, record.stopped_by, means)


def _means(store: Store, trial_id: str, evaluation_id: str) -> dict[str, float]:
    import pyarrow.compute as pc  # most verbs only list what is complete, and it takes long to import

    record = reader.read_evaluation(store, trial_id, evaluation_id)
    if record is None:
        return {}
    table = reader.read_cases(store, record)
    is_refused = pc.and_(pc.equal(table["metric"], "passed"), pc.equal(table["value"], 0.0))
    if refused := table.filter(is_refused)["case"].unique().to_pylist():
        cases = table["case"].cast(pa.string())
        table = table.filter(pc.invert(pc.is_in(cases, value_set=pa.array(refused, pa.string()))))
    finite = table.filter(pc.is_finite(table["value"])).group_by("metric", use_threads=False)
    means = finite.aggregate([("value", "mean")])
    return dict(zip(means["metric"].to_pylist(), means["value_mean"].to_pylist(), strict=True))


def _read_index(store: Store, study: str) -> dict[str, CompleteTrial]:
    """Returns the index; empty where it is absent, damaged, or of another version."""
    body = codec.read_whole(store, StudyFiles(study).index)
    trials = body["trials"] if body.get("version") == INDEX_VERSION else {}
    return {trial_id: CompleteTrial(**trial) for trial_id, trial in trials.items()}


def _write_index(store: Store, study: str, index: Mapping[str, CompleteTrial]) -> None:
    trials = {trial_id: asdict(trial) for trial_id, trial in index.items()}
    content = codec.json_bytes({"version": INDEX_VERSION, "trials": trials})
    with suppress(StorageError):  # the next process that needs it computes it again
        store.write(StudyFiles(study).index, content)
