"""`xferlab status`: the state of every trial, and why the failed ones failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from statistics import fmean
from typing import Any, NamedTuple

from xferlab.cli.last_plan import StudyComparison, stored
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import StatusOptions, WatchOptions
from xferlab.cli.output import tell
from xferlab.cli.session import check_name
from xferlab.cli.view import best_scores, print_table
from xferlab.errors import StorageError
from xferlab.plan.spec import PlannedTrial
from xferlab.records import layout, reader
from xferlab.records.cancellations import read_cancelled
from xferlab.records.complete import complete_trials
from xferlab.records.schema import EpochResult, TrialRecord
from xferlab.records.states import kept_starts
from xferlab.records.store import Store
from xferlab.schedule.lease import driver_of
from xferlab.schedule.moves import last_document

STATES = ("waiting", "running", "stale", "interrupted", "failed", "blocked", "cancelled", "complete")
"""`stale`: the last attempt has no end, and no process works on it. `interrupted`: it resumes."""

_READERS = 16
_PACE_OF = 5
"""Epochs, the last ones, by which the speed of a trial is told."""
_SKEW = timedelta(seconds=60)
"""By which the clocks of a driver and of its workers may differ."""


def run(options: StatusOptions) -> int:
    """Prints states; exit code 1 unless all trials (of the stage and arm asked for) are complete."""
    now = stored(options)
    if options.state is not None:
        check_name("state", options.state, STATES, now.session.path)
    rows = chosen_states(options, now)
    shown = [row for row in rows if options.state in (None, row["state"])]
    tell_states(rows, now, shown)
    now.print_remarks()
    _print(shown, now.trials)
    print(counts_of(rows))
    return COMPLETE if all_complete(rows, now) else INCOMPLETE


def all_complete(rows: Iterable[Mapping[str, Any]], now: StudyComparison[Any]) -> bool:
    """Whether nothing is left of what the study asks for."""
    return not now.lacks_trials and all(row["state"] == "complete" for row in rows)


def chosen_states(options: WatchOptions, now: StudyComparison[Any]) -> list[dict[str, Any]]:
    """Returns the rows of the trials of the stage and arm asked for.

    Raises:
        UsageError: There is no such stage or arm.
    """
    arms = {arm for trial in now.trials for arm in trial.arms}
    stages = {trial.stage for trial in now.trials}
    for option, given, known in (("arm", options.arm, arms), ("stage", options.stage, stages)):
        if given is not None:
            check_name(option, given, sorted(known), now.session.path)
    return [
        row
        for row in states(now.session.store, now.session.study, now.trials)
        if options.arm in (None, *row["arms"]) and options.stage in (None, row["stage"])
    ]


def tell_states(
    rows: Sequence[dict[str, Any]], now: StudyComparison[Any], shown: Sequence[dict[str, Any]] | None = None
) -> None:
    """Tells the number of trials in each state, and all rows or those that are shown."""
    counts = Counter(row["state"] for row in rows)
    trials = rows if shown is None else shown
    tell(study=now.session.study, remarks=now.remarks(), counts=counts, trials=trials)


def counts_of(rows: Iterable[Mapping[str, Any]]) -> str:
    """Returns the number of trials in each state for people."""
    counts = Counter(row["state"] for row in rows)
    return ", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "no trial"


def scores_of(rows: Sequence[Mapping[str, Any]], trials: Iterable[PlannedTrial]) -> tuple[str, list[str]]:
    """Returns the best scores of rows for people, below their heading."""
    by_id = {trial.trial_id: trial for trial in trials}
    return best_scores([by_id[row["trial_id"]] for row in rows], [row["best_score"] for row in rows])


def _print(rows: Sequence[dict[str, Any]], trials: Iterable[PlannedTrial]) -> None:
    heading, scores = scores_of(rows, trials)
    cells = [
        (row["name"], row["trial_id"], described(row), str(row["epochs"]), score)
        for row, score in zip(rows, scores, strict=True)
    ]
    print_table(("trial", "id", "state", "epochs", heading), cells)
    for row in rows:
        if failure := row.get("failure"):
            print(f"{row['name']}: {failure['type']}: {failure['message']}")
            print(f"  on {failure['host']} at {failure['when']}, after epoch {failure['epoch']}")
    found = {row["state"] for row in rows}
    if "failed" in found:
        print("`xferlab failures` shows tracebacks, and what to do")
    if "stale" in found:
        print("stale trials resume from their last checkpoint when the study is run again")


class _Stored(NamedTuple):
    """What a storage holds of a trial that has begun."""

    history: Sequence[EpochResult] = ()
    failure: Mapping[str, Any] | None = None
    attempts: Sequence[Mapping[str, Any]] = ()
    record: TrialRecord | None = None

    @property
    def reached(self) -> tuple[int, float | None]:
        """Finished epochs and the best score."""
        best = next((epoch.score for epoch in reversed(self.history) if epoch.improved), None)
        return len(self.history), best

    @property
    def epoch_s(self) -> float | None:
        """Seconds that its last epochs took on average; None before the first has ended."""
        times = [result.train_s + result.validation_s for result in self.history[-_PACE_OF:]]
        return fmean(times) if times else None


def states(store: Store, study: str, trials: Sequence[PlannedTrial]) -> list[dict[str, Any]]:
    """Returns a row for each trial, parents before children.

    A row has name, trial_id, arms, stage, state (of `STATES`), epochs, max_epochs and best_score;
    `host` and `since` where an attempt was begun and has not ended, `failure` and `attempts` where it failed,
    `reason` where the last run has cancelled it;
    `continues` (trial_id and epoch) where it waits and will continue another trial; `stopped_by` where it is
    trained: complete, or interrupted because it lacks measurements.
    """
    complete = complete_trials(store, study, trials)
    present = set(store.list(layout.TRIALS)) - complete.keys()
    begun = [trial.trial_id for trial in trials if trial.trial_id in present]
    with ThreadPoolExecutor(_READERS) as pool:
        stored = dict(zip(begun, pool.map(lambda trial_id: _read(store, trial_id), begun), strict=True))
    driven = _driven(store, study, trials, stored)
    cancelled = read_cancelled(store, study)
    starts = kept_starts(store, [trial for trial in trials if trial.trial_id not in complete])
    rows: dict[str, dict[str, Any]] = {}
    for trial in trials:
        left = stored.get(trial.trial_id, _Stored())
        parents = (rows[parent]["state"] for parent in trial.parents if parent in rows)
        if done := complete.get(trial.trial_id):
            reached: tuple[int, float | None] = (done.num_epochs, done.best_score)
            state: dict[str, Any] = {"state": "complete", "stopped_by": done.stopped_by}
        else:
            reached = left.reached
            state = _open_state(left, trial.trial_id in driven, parents)
            if (reason := cancelled.get(trial.trial_id)) and state["state"] != "running":
                state = {"state": "cancelled", "reason": reason}
            state |= {"epoch_s": left.epoch_s} if left.epoch_s else {}
            if state["state"] == "waiting" and (kept := starts.get(trial.trial_id)):
                state["continues"] = {"trial_id": kept.record.trial_id, "epoch": kept.num_epochs}
        rows[trial.trial_id] = {
            "name": trial.name,
            "trial_id": trial.trial_id,
            "arms": list(trial.arms),
            "stage": trial.stage,
            "epochs": reached[0],
            "max_epochs": trial.max_epochs,
            "best_score": reached[1],
            **state,
        }
    return list(rows.values())


def described(row: Mapping[str, Any]) -> str:
    """Returns the state of a row for people."""
    words = {
        "running": "running on {host} since {since}",
        "stale": "stale: begun on {host} at {since}, and no process works on it",
        "interrupted": "interrupted at epoch {epochs} of {max_epochs}",
        "cancelled": "cancelled: {reason}",
    }
    if row["state"] == "interrupted" and row.get("stopped_by"):
        return "trained; measurements are missing"
    if continues := row.get("continues"):
        return "waiting; continues trial {trial_id} after epoch {epoch}".format_map(continues)
    return words.get(row["state"], "{state}").format_map(row)


def _read(store: Store, trial_id: str) -> _Stored:
    try:
        history = reader.read_history(store, trial_id)
    except StorageError:  # a damaged file must not hide the states of the others
        history = []
    attempts = reader.read_run(store, trial_id).get("attempts", [])
    record = reader.read_trial(store, trial_id)
    return _Stored(history, reader.read_failure(store, trial_id), attempts, record)


def _open_state(stored: _Stored, is_driven: bool, parents: Iterable[str]) -> dict[str, Any]:
    if stored.failure is not None:
        return {"state": "failed", "failure": dict(stored.failure), "attempts": len(stored.attempts)}
    if any(state in ("failed", "blocked", "cancelled") for state in parents):
        return {"state": "blocked"}
    if attempt := _unended(stored):
        state = "running" if is_driven else "stale"
        return {"state": state, "host": attempt["host"], "since": attempt["started"]}
    if stored.record:
        return {"state": "interrupted", "stopped_by": stored.record.stopped_by}
    return {"state": "interrupted" if stored.attempts or stored.history else "waiting"}


def _unended(stored: _Stored) -> Mapping[str, Any] | None:
    """The last attempt, if it has no end."""
    last = stored.attempts[-1] if stored.attempts else {}
    return last if last.get("outcome") == "running" else None


def _driven(
    store: Store, study: str, trials: Sequence[PlannedTrial], stored: Mapping[str, _Stored]
) -> set[str]:
    """The trials that a live driver of this study, or of one that shares them, may have begun last."""
    unended = {trial_id: attempt for trial_id, of_trial in stored.items() if (attempt := _unended(of_trial))}
    driven: set[str] = set()
    for name in {study, *store.list(layout.STUDIES)} if unended else ():
        if holder := driver_of(store, name):
            planned = {trial.trial_id for trial in trials}
            if name != study:
                planned = {entry["trial_id"] for entry in last_document(store, name).get("trials", ())}
            since = datetime.fromisoformat(holder.since) - _SKEW
            driven |= {
                trial_id
                for trial_id in planned & unended.keys()
                if datetime.fromisoformat(unended[trial_id]["started"]) >= since
            }
    return driven
