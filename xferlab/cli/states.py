"""Where every trial of a study stands, from its records and from who drives it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from xferlab.errors import RecordError, StorageError
from xferlab.plan.spec import TrialSpec
from xferlab.records import codec, layout, reader
from xferlab.records.complete import complete_ids
from xferlab.records.schema import EpochResult
from xferlab.records.store import Store
from xferlab.schedule.lease import Holder, driver_of

STATES = ("waiting", "running", "stale", "interrupted", "failed", "blocked", "complete")
"""`stale`: its last attempt left no word of its end, and nobody drives it. `interrupted`: it resumes."""

_READERS = 16
_SKEW = timedelta(seconds=60)
"""By which the clocks of a driver and of its workers may differ."""


@dataclass(frozen=True)
class _Stored:
    """What a storage holds of a trial that is begun."""

    history: Sequence[EpochResult] = ()
    failure: Mapping[str, Any] | None = None
    attempts: Sequence[Mapping[str, Any]] = ()

    @staticmethod
    def of(store: Store, trial_id: str) -> _Stored:
        try:
            history = reader.read_history(store, trial_id)
        except StorageError:  # a damaged file must not hide where the trials stand
            history = []
        attempts = reader.read_run(store, trial_id).get("attempts", [])
        return _Stored(history, reader.read_failure(store, trial_id), attempts)


def states(store: Store, study: str, trials: Sequence[TrialSpec]) -> list[dict[str, Any]]:
    """Returns a row for each trial, parents before children.

    A row has name, trial_id, arms, stage, state (of `STATES`), epochs, max_epochs and best_score;
    `host` and `since` where an attempt was begun and has not ended, `failure` and `attempts` where it failed.
    """
    complete = complete_ids(store, trials)
    present = set(store.list("trials"))
    begun = [trial.trial_id for trial in trials if trial.trial_id in present]
    with ThreadPoolExecutor(_READERS) as pool:
        stored = dict(zip(begun, pool.map(lambda trial_id: _Stored.of(store, trial_id), begun), strict=True))
    drivers = _Drivers(store, study)
    rows: dict[str, dict[str, Any]] = {}
    for trial in trials:
        found = stored.get(trial.trial_id, _Stored())
        if trial.trial_id in complete:
            state: dict[str, Any] = {"state": "complete"}
        else:
            state = _open(
                trial.trial_id, found, drivers, (rows[one]["state"] for one in trial.parents if one in rows)
            )
        rows[trial.trial_id] = {
            "name": trial.name,
            "trial_id": trial.trial_id,
            "arms": list(trial.arms),
            "stage": trial.stage,
            "epochs": len(found.history),
            "max_epochs": trial.identity["training"]["max_epochs"],
            "best_score": next((epoch.score for epoch in reversed(found.history) if epoch.improved), None),
            **state,
        }
    return list(rows.values())


def described(row: Mapping[str, Any]) -> str:
    """Returns the state of a row for people."""
    if row["state"] == "running":
        return f"running on {row['host']} since {row['since']}"
    if row["state"] == "stale":
        return f"stale: begun on {row['host']} at {row['since']}, and no process works on it"
    if row["state"] == "interrupted":
        return f"interrupted at epoch {row['epochs']} of {row['max_epochs']}"
    return str(row["state"])


def _open(trial_id: str, stored: _Stored, drivers: _Drivers, parents: Iterable[str]) -> dict[str, Any]:
    last = stored.attempts[-1] if stored.attempts else {}
    if stored.failure is not None:
        return {"state": "failed", "failure": dict(stored.failure), "attempts": len(stored.attempts)}
    if any(state in ("failed", "blocked") for state in parents):
        return {"state": "blocked"}
    if last.get("outcome") == "running":
        is_driven = drivers.was_started_by_live_driver(trial_id, str(last["started"]))
        state = "running" if is_driven else "stale"
        return {"state": state, "host": last["host"], "since": last["started"]}
    return {"state": "interrupted" if stored.attempts or stored.history else "waiting"}


class _Drivers:
    """The live processes that drive the study, or another study of the storage that may share its trials."""

    def __init__(self, store: Store, study: str):
        self._store, self._study = store, study

    def was_started_by_live_driver(self, trial_id: str, started: str) -> bool:
        """Returns whether a live process that drives this trial may have started an attempt."""
        if self._own is not None and _after(started, self._own.since):
            return True
        return any(trial_id in planned and _after(started, since) for planned, since in self._others)

    @cached_property
    def _own(self) -> Holder | None:
        return driver_of(self._store, self._study)

    @cached_property
    def _others(self) -> list[tuple[set[str], str]]:
        """The trials that each other study's last plan names, and since when its driver lives."""
        others = (study for study in self._store.list("studies") if study != self._study)
        drivers = ((study, driver_of(self._store, study)) for study in others)
        return [(_planned(self._store, study), holder.since) for study, holder in drivers if holder]


def _planned(store: Store, study: str) -> set[str]:
    """The ids of the trials in the last plan of a study; none if there is no plan or it is damaged."""
    try:
        plan = codec.read_json(store, layout.plan_path(study)) or {}
    except RecordError:
        return set()
    return {trial["trial_id"] for trial in plan.get("trials", ())}


def _after(started: str, since: str) -> bool:
    return datetime.fromisoformat(started) >= datetime.fromisoformat(since) - _SKEW
