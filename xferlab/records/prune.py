"""What a storage holds and nothing needs any more; listed first, deleted only when asked.

What some study's last plan names is needed, and so is what a begun sample of a search starts from. Kept
states stay with their trials until all planned trials are complete. A record is deleted before the files that
it describes, so that what a kill leaves does not look complete.
"""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyarrow.fs import FileInfo

from xferlab.errors import RecordError, StorageError
from xferlab.plan.spec import PlannedTrial, Predicted
from xferlab.records import reader, samples
from xferlab.records.layout import (
    DONORS,
    PREDICTIONS,
    RECORD,
    SEARCH,
    SEARCHES,
    SELECTIONS,
    STATE,
    STATES,
    STUDIES,
    TRIALS,
    StudyFiles,
    TrialFiles,
    donor_path,
    prediction_files,
    selection_path,
)
from xferlab.records.predictions import PredictionRecord
from xferlab.records.store import Store

DAY_S = 86400.0
LOST_AFTER = 8
"""Deletions that fail in a row before the others are not tried."""
MEASUREMENTS = ("evaluations", "features")
REFERENCES = {
    SELECTIONS: "selections that nothing refers to",
    DONORS: "given weights that nothing refers to",
}
"""Kinds of files that are needed where a trial refers to them."""
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.[0-9a-f]{8}\.tmp")
_ASIDE = re.compile(r".+\.damaged-[0-9a-f]{8}")


@dataclass(frozen=True)
class Surplus:
    """Things of one kind that nothing needs.

    Attributes:
        kind: What they are, for people.
        names: Files, or folders taken as wholes, in the storage.
        size: Bytes in all.
    """

    kind: str
    names: tuple[str, ...]
    size: int


def find_surplus(
    store: Store, plans: Iterable[dict[str, Any]] | None = None, *, searches: bool = False
) -> list[Surplus]:
    """Returns what nothing needs, by kind; kinds of which there is nothing are left out.

    Args:
        store: The storage.
        plans: What `read_plans` returned, where that is at hand.
        searches: Whether searches count as not needed, too.

    Raises:
        RecordError: There is no plan, so that nothing says what is needed; or one of them cannot be read.
    """
    files = {name: info for name, info in store.walk("") if not name.endswith(".lease")}
    documents = read_plans(store) if plans is None else plans
    entries = (entry for document in documents for entry in document["trials"])
    planned = list(map(PlannedTrial.from_entry, entries))
    needed = _needed(planned, store, searches=searches)
    complete = {trial.trial_id for trial in planned if reader.read_trial(store, trial.trial_id)}
    if not complete.issuperset(trial.trial_id for trial in planned):  # one may start from a kept state
        needed |= {_kept_by(name) for name in files if name.startswith(f"{STATES}/")}
    names: dict[str, set[str]] = defaultdict(set)
    sizes: dict[str, int] = defaultdict(int)
    for name, info in files.items():
        kind, whole = _judge(name, info, needed, complete, searches=searches)
        if kind:
            names[kind].add(whole)
            sizes[kind] += info.size or 0
    return [Surplus(kind, tuple(sorted(names[kind])), sizes[kind]) for kind in sorted(names)]


def delete(store: Store, surplus: Surplus) -> None:
    """Deletes what `find_surplus` found, each record before the files that it describes.

    A file that cannot be deleted does not keep the others. After `LOST_AFTER` failures in a row the storage
    counts as lost, and the rest is not tried.

    Raises:
        StorageError: A line for each that could not be deleted, and how many were not tried; prune again to
            delete the rest.
    """
    failures: list[str] = []
    in_a_row = 0
    for number, name in enumerate(surplus.names, start=1):
        try:
            _delete(store, name)
            in_a_row = 0
        except StorageError as error:
            failures.append(str(error))
            in_a_row += 1
        if in_a_row == LOST_AFTER:
            if left := len(surplus.names) - number:
                failures.append(
                    f"{surplus.kind}: {left} more were not tried, after {LOST_AFTER} failures in a row"
                )
            break
    if failures:
        raise StorageError("\n".join(failures))


def _delete(store: Store, name: str) -> None:
    for record in (RECORD, SEARCH):
        store.delete(f"{name}/{record}")
    if store.size(name) is None:
        store.delete_dir(name)
    else:
        store.delete(name)


def _judge(
    name: str, info: FileInfo, needed: set[str], complete: set[str], *, searches: bool
) -> tuple[str, str]:
    """Returns the kind of surplus that a file is, and what to delete with it; no kind if it is needed."""
    top, *below = name.split("/")
    whole, measurement = "/".join([top, *below[:1]]), name.rpartition("/")[0]
    if _is_leftover(info):
        return "leftovers of killed writers", name
    if top == TRIALS and whole not in needed:
        return "trials that no plan names", whole
    if top == TRIALS and len(below) == 4 and below[1] in MEASUREMENTS and measurement not in needed:
        return "measurements that no plan names", measurement
    if _ASIDE.fullmatch(info.base_name):
        return "damaged files that were set aside", name
    if top == TRIALS and below[0] in complete and _is_of_a_training(name, TrialFiles(below[0])):
        return "states of complete trials", name
    if top == STATES and _kept_by(name) not in needed:
        return "kept states of trials that no plan names", name
    if top in REFERENCES and name not in needed:
        return REFERENCES[top], name
    if top == PREDICTIONS and name not in needed:
        return "predictions that no plan needs", name if whole in needed else whole
    if top == SEARCHES and searches:
        return "searches", whole
    return "", ""


def _kept_by(name: str) -> str:
    """Returns the folder of the trial whose state a file holds."""
    return TrialFiles(name.rpartition("/")[2].removesuffix(STATE)).folder


def _is_of_a_training(name: str, files: TrialFiles) -> bool:
    """Returns whether only a training that has not ended needs this file of its trial."""
    return name == files.progress or name.startswith(f"{files.checkpoint}/state-")


def _is_leftover(info: FileInfo) -> bool:
    is_old = info.mtime is not None and time.time() - info.mtime.timestamp() > DAY_S
    if info.base_name.startswith(".xferlab-probe-"):
        return is_old
    match = _TEMPORARY.fullmatch(info.base_name)
    return match is not None and (is_old or not _is_alive(int(match["pid"])))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _needed(planned: Sequence[PlannedTrial], store: Store, *, searches: bool) -> set[str]:
    """Returns the folders and files that planned trials and begun samples need."""
    specs = [spec for trial in planned if (spec := reader.read_spec(store, trial.trial_id))]
    begun = (
        []
        if searches
        else [sample for name in store.list(SEARCHES) for sample in samples.read_begun(store, name)]
    )
    of_samples = [spec for sample in begun for spec in sample.trials]
    needed = {TrialFiles(trial.trial_id).folder for trial in planned}
    needed |= {TrialFiles(parent).folder for spec in of_samples for parent in spec.parents}
    for spec in [*specs, *of_samples]:  # only specs know them
        needed |= {selection_path(cases.selection) for cases in spec.trained}
        needed |= _predicted(spec.predicted)
    for trial in [*planned, *of_samples]:
        files = TrialFiles(trial.trial_id)
        for evaluation in trial.evaluations:
            needed |= {
                files.evaluation(evaluation.evaluation_id).folder,
                selection_path(evaluation.selection),
                *_predicted(evaluation.predicted),
            }
        if features := trial.features:
            needed |= {files.features(features.features_id).folder, selection_path(features.selection)}
            needed |= _predicted(features.predicted)
        needed |= {donor_path(donor.digest) for donor in trial.donors}
    producers = {
        producer
        for trial in [*planned, *of_samples]
        for given in trial.inputs
        if given.network is None
        for producer in given.trials
    }
    return needed.union(_predictions(store, producers))


def _predictions(store: Store, producers: Collection[str]) -> Iterator[str]:
    """Yields the folders, records and tables of what the present weights of some trials have predicted."""
    trials = (reader.read_trial(store, trial_id) for trial_id in producers)
    weights = {(trial.trial_id, trial.weights_sha256) for trial in trials if trial}
    for prediction_id in store.list(PREDICTIONS):
        files = prediction_files(prediction_id)
        record = reader.read_record(store, files.record, PredictionRecord, prediction_id=prediction_id)
        if record and (record.trial_id, record.weights_sha256) in weights:
            yield from (files.folder, files.record, *map(files.table, record.tables))


def _predicted(predicted: Iterable[Predicted]) -> set[str]:
    return {selection_path(each.selection) for each in predicted}


def read_plans(store: Store) -> list[dict[str, Any]]:
    """Returns the last plan of every study of a storage: what they name is needed.

    Raises:
        RecordError: There is none, or one of them cannot be read.
    """
    studies = [study for study in store.list(STUDIES) if store.exists(StudyFiles(study).plan)]
    if not studies:
        raise RecordError(
            f"{store.shown}: no plan of any study, so nothing tells what is needed; delete the folder "
            "yourself if you need none of it"
        )
    return [reader.read_plan(store, study) for study in studies]
