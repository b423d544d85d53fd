"""What a storage holds and nothing needs any more; listed first, deleted only when asked.

Needed is what some study's last plan names, and what a begun sample of a search starts from. A record is
deleted before what it vouches for, so that whatever a kill leaves does not look complete.
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
from xferlab.records import codec, layout, reader, samples
from xferlab.records.file_info import FileInfo
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
        searches: Take searches (`tuning/`) as not needed, too.

    Raises:
        RecordError: There is no plan, so that nothing tells what is needed; or one of them cannot be read.
    """
    files = {name: found for name, found in store.walk("") if not name.endswith(".lease")}
    needed = _needed(store, searches=searches)
    complete = {one for one in needed.trials if reader.read_trial(store, one) is not None}
    names: dict[str, set[str]] = defaultdict(set)
    sizes: dict[str, int] = defaultdict(int)
    for name, found in files.items():
        kind, whole = _judge(name, found, needed, complete, searches=searches)
        if kind:
            names[kind].add(whole)
            sizes[kind] += found.size
    return [Surplus(kind, tuple(sorted(names[kind])), sizes[kind]) for kind in sorted(names)]


def delete(store: Store, surplus: Surplus) -> None:
    """Deletes what `find_surplus` found, each record before what it vouches for.

    What cannot be deleted keeps nothing else from it. After `LOST_AFTER` failures in a row the storage is
    taken for lost, and the others are not tried.

    Raises:
        StorageError: A line for each that could not be deleted, and how many were not tried; pruning again
            goes on.
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
    for record in ("record.json", "tuning.json"):
        store.delete(f"{name}/{record}")
    if store.size(name) is None:
        store.delete_dir(name)
    else:
        store.delete(name)


def _judge(
    name: str, found: FileInfo, needed: _Needed, complete: set[str], *, searches: bool
) -> tuple[str, str]:
    """Returns the kind of surplus that a file is, and what to delete with it; no kind if it is needed."""
    top, *below = name.split("/")
    if _is_leftover(found):
        return "leftovers of killed writers", name
    if top == "trials" and below[0] not in needed.trials:
        return "trials that no plan names", layout.trial_dir(below[0])
    if top == "trials" and len(below) == 4 and below[1] in ("evaluations", "features"):
        part = "/".join([top, *below[:3]])
        return ("", "") if part in needed.parts else ("measurements that no plan names", part)
    if _ASIDE.fullmatch(found.name):
        return "damaged files that were set aside", name
    if top == "trials" and below[0] in complete and _is_of_a_training(below[1:]):
        return "states of complete trials", name
    if top == "selections" and below[0].removesuffix(".json") not in needed.selections:
        return "selections that nothing refers to", name
    if top == "donors" and below[0] not in needed.donors:
        return "given weights that nothing refers to", name
    if top == "tuning" and searches:
        return "searches", f"tuning/{below[0]}"
    return "", ""


def _is_of_a_training(path: list[str]) -> bool:
    """Whether only a training that has not ended needs this file of its trial."""
    return path == ["progress.jsonl"] or (path[:-1] == ["checkpoint"] and path[-1].startswith("state-"))


def _is_leftover(found: FileInfo) -> bool:
    if found.name.startswith(".xferlab-probe-"):
        return time.time() - found.modified > DAY_S
    match = _TEMPORARY.fullmatch(found.name)
    return match is not None and (time.time() - found.modified > DAY_S or not _lives(int(match["pid"])))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _needed(store: Store, *, searches: bool) -> _Needed:
    studies = store.list("studies")
    plans = [reader.read_plan(store, one) for one in studies if store.exists(layout.plan_path(one))]
    if not plans:
        raise RecordError(
            f"{store.shown}: no plan of any study, so nothing tells what is needed; delete the folder "
            "yourself if you need none of it"
        )
    needed = _Needed()
    for plan in plans:
        for entry in plan["trials"]:
            _add_entry(needed, entry)
    for trial_id in sorted(needed.trials):
        _add_spec(needed, _spec(store, trial_id))
    if not searches:
        for tuning_id in store.list("tuning"):
            for sample in samples.read_begun(store, tuning_id):
                for spec in sample.trials:
                    needed.trials.update(spec.parents)
                    _add_spec(needed, spec)
    return needed


def _add_entry(needed: _Needed, entry: Mapping[str, Any]) -> None:
    """Adds a trial as a plan tells of it."""
    trial_id = entry["trial_id"]
    needed.trials.add(trial_id)
    for one in entry["evaluations"]:
        needed.parts.add(layout.evaluation_dir(trial_id, one["evaluation_id"]))
        needed.selections.add(one["selection"])
    if features := entry.get("features"):
        needed.parts.add(layout.features_dir(trial_id, features["features_id"]))
        needed.selections.add(features["selection"])
    if entry["donor"]:
        needed.donors.add(entry["donor"]["sha256"])


def _add_spec(needed: _Needed, spec: TrialSpec | None) -> None:
    """Adds what a trial trains on, which its spec knows alone; of one not begun, the next run writes it."""
    if spec is not None:
        needed.selections.add(spec.selection)
        needed.donors.update([spec.donor["sha256"]] if spec.donor else [])


def _spec(store: Store, trial_id: str) -> TrialSpec | None:
    try:
        body = codec.read_json(store, layout.spec_path(trial_id))
    except RecordError:
        return None  # the next run writes it again
    return TrialSpec.from_json(body) if body else None
