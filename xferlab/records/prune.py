"""What a storage holds and nothing needs any more; listed first, deleted only when asked.

What some study's last plan names is needed, and so is what a begun sample of a search starts from. A record
is deleted before the files that it describes, so that what a kill leaves does not look complete.
"""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xferlab.errors import RecordError, StorageError
from xferlab.plan.spec import TrialSpec
from xferlab.records import codec, reader, samples
from xferlab.records.file_info import FileInfo
from xferlab.records.layout import (
    DONORS,
    RECORD,
    SEARCH,
    SEARCHES,
    SELECTIONS,
    STUDIES,
    TRIALS,
    SearchFiles,
    StudyFiles,
    TrialFiles,
)
from xferlab.records.store import Store

DAY_S = 86400.0
LOST_AFTER = 8
"""Deletions that fail in a row before the others are not tried."""
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


@dataclass
class _Needed:
    """What plans and begun samples name."""

    trials: set[str] = field(default_factory=set)
    parts: set[str] = field(default_factory=set)
    selections: set[str] = field(default_factory=set)
    donors: set[str] = field(default_factory=set)


def find_surplus(store: Store, *, searches: bool = False) -> list[Surplus]:
    """Returns what nothing needs, by kind; kinds of which there is nothing are left out.

    Args:
        store: The storage.
        searches: Whether searches count as not needed, too.

    Raises:
        RecordError: There is no plan, so that nothing says what is needed; or one of them cannot be read.
    """
    files = {name: info for name, info in store.walk("") if not name.endswith(".lease")}
    needed = _needed(store, searches=searches)
    complete = {trial_id for trial_id in needed.trials if reader.read_trial(store, trial_id) is not None}
    names: dict[str, set[str]] = defaultdict(set)
    sizes: dict[str, int] = defaultdict(int)
    for name, info in files.items():
        kind, whole = _judge(name, info, needed, complete, searches=searches)
        if kind:
            names[kind].add(whole)
            sizes[kind] += info.size
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
    name: str, info: FileInfo, needed: _Needed, complete: set[str], *, searches: bool
) -> tuple[str, str]:
    """Returns the kind of surplus that a file is, and what to delete with it; no kind if it is needed."""
    top, *below = name.split("/")
    if _is_leftover(info):
        return "leftovers of killed writers", name
    if top == TRIALS and below[0] not in needed.trials:
        return "trials that no plan names", TrialFiles(below[0]).folder
    if top == TRIALS and len(below) == 4 and below[1] in ("evaluations", "features"):
        part = "/".join([top, *below[:3]])
        if part not in needed.parts:
            return "measurements that no plan names", part
    if _ASIDE.fullmatch(info.name):
        return "damaged files that were set aside", name
    if top == TRIALS and below[0] in complete and _is_of_a_training(name, TrialFiles(below[0])):
        return "states of complete trials", name
    if top == SELECTIONS and below[0].removesuffix(".json") not in needed.selections:
        return "selections that nothing refers to", name
    if top == DONORS and below[0] not in needed.donors:
        return "given weights that nothing refers to", name
    if top == SEARCHES and searches:
        return "searches", SearchFiles(below[0]).folder
    return "", ""


def _is_of_a_training(name: str, files: TrialFiles) -> bool:
    """Returns whether only a training that has not ended needs this file of its trial."""
    return name == files.progress or name.startswith(f"{files.checkpoint}/state-")


def _is_leftover(info: FileInfo) -> bool:
    is_old = time.time() - info.modified > DAY_S
    if info.name.startswith(".xferlab-probe-"):
        return is_old
    match = _TEMPORARY.fullmatch(info.name)
    return match is not None and (is_old or not _is_alive(int(match["pid"])))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _needed(store: Store, *, searches: bool) -> _Needed:
    studies = [study for study in store.list(STUDIES) if store.exists(StudyFiles(study).plan)]
    if not studies:
        raise RecordError(
            f"{store.shown}: no plan of any study, so nothing tells what is needed; delete the folder "
            "yourself if you need none of it"
        )
    needed = _Needed()
    for study in studies:
        for entry in reader.read_plan(store, study)["trials"]:
            _add_entry(needed, entry)
    for trial_id in sorted(needed.trials):
        _add_spec(needed, _spec(store, trial_id))
    for tuning_id in [] if searches else store.list(SEARCHES):
        for sample in samples.read_begun(store, tuning_id):
            for spec in sample.trials:
                needed.trials.update(spec.parents)
                _add_spec(needed, spec)
    return needed


def _add_entry(needed: _Needed, entry: Mapping[str, Any]) -> None:
    """Adds a trial as a plan lists it."""
    files = TrialFiles(entry["trial_id"])
    needed.trials.add(entry["trial_id"])
    for evaluation in entry["evaluations"]:
        needed.parts.add(files.evaluation(evaluation["evaluation_id"]).folder)
        needed.selections.add(evaluation["selection"])
    if features := entry.get("features"):
        needed.parts.add(files.features(features["features_id"]).folder)
        needed.selections.add(features["selection"])
    if entry["donor"]:
        needed.donors.add(entry["donor"]["sha256"])


def _add_spec(needed: _Needed, spec: TrialSpec | None) -> None:
    """Adds what a trial trains on, which only its spec knows."""
    if spec is not None:
        needed.selections.add(spec.selection)
        needed.donors.update([spec.donor.digest] if spec.donor else [])


def _spec(store: Store, trial_id: str) -> TrialSpec | None:
    try:
        body = codec.read_json(store, TrialFiles(trial_id).spec)
    except RecordError:
        return None  # the next run writes it again
    return TrialSpec.from_json(body) if body else None
