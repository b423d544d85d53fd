"""`xferlab status`: the state of every trial, and why the failed ones failed."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from xferlab.cli.last_plan import StudyComparison, compare
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import StatusOptions
from xferlab.cli.output import is_lost
from xferlab.cli.session import check_name
from xferlab.cli.view import best_scores, print_table
from xferlab.errors import RecordError, StorageError, UsageError
from xferlab.plan.spec import PlannedTrial
from xferlab.records import codec, layout, reader
from xferlab.records.complete import complete_trials
from xferlab.records.schema import EpochResult
from xferlab.records.states import kept_starts
from xferlab.records.store import Store
from xferlab.schedule.lease import driver_of

STATES = ("waiting", "running", "stale", "interrupted", "failed", "blocked", "complete")
"""`stale`: the last attempt has no end, and no process works on it. `interrupted`: it resumes."""

_READERS = 16
_SKEW = timedelta(seconds=60)
"""By which the clocks of a driver and of its workers may differ."""


WATCH_EVERY_S = 5.0


def run(options: StatusOptions) -> int:
    """Prints states; exit code 1 unless all trials (of the stage and arm asked for) are complete."""
    now = compare(options)
    _check(options, now)
    store, study = now.session.store, now.session.study
    before: list[dict[str, Any]] | None = None
    while True:
        rows = [
            row
            for row in states(store, study, now.trials)
            if options.arm in (None, *row["arms"]) and options.stage in (None, row["stage"])
        ]
        if rows != before:
            _show(rows, now, options)
        is_complete = not now.lacks_trials and all(row["state"] == "complete" for row in rows)
        if is_complete or not options.watch or is_lost(sys.stdout):
            return COMPLETE if is_complete else INCOMPLETE
        before = rows
        try:
            time.sleep(WATCH_EVERY_S)
        except KeyboardInterrupt:  # how one stops watching
            return INCOMPLETE


def _check(options: StatusOptions, now: StudyComparison) -> None:
    if options.json and options.watch:
        raise UsageError("--watch shows a table; --json is printed once")
    arms = {arm for trial in now.trials for arm in trial.arms}
    stages = {trial.stage for trial in now.trials}
    for option, given, known in (
        ("arm", options.arm, arms),
        ("stage", options.stage, stages),
        ("state", options.state, set(STATES)),
    ):
        if given is not None:
            check_name(option, given, sorted(known), now.session.loaded.path)


def _show(rows: list[dict[str, Any]], now: StudyComparison, options: StatusOptions) -> None:
    counts = Counter(row["state"] for row in rows)
    shown = [row for row in rows if options.state in (None, row["state"])]
    if options.json:
        body = {"study": now.session.study, "remarks": now.remarks(), "counts": counts, "trials": shown}
        print(json.dumps(body, indent=2))
        return
    if options.watch and sys.stdout.isatty():
        print("\x1b[H\x1b[2J", end="")
    now.print_remarks()
    trials = {trial.trial_id: trial for trial in now.trials}
    _print(shown, [trials[row["trial_id"]] for row in shown], counts)


def _print(rows: Sequence[dict[str, Any]], trials: Sequence[PlannedTrial], counts: Counter[str]) -> None:
    heading, scores = best_scores(trials, [row["best_score"] for row in rows])
    cells = [
        (row["name"], row["trial_id"], described(row), str(row["epochs"]), score)
        for row, score in zip(rows, scores, strict=True)
    ]
    print_table(("trial", "id", "state", "epochs", heading), cells)
    for row in rows:
        if failure := row.get("failure"):
            print(f"{row['name']}: {failure['type']}: {failure['message']}")
            print(f"  on {failure['host']} at {failure['when']}, after epoch {failure['epoch']}")
    if counts["failed"]:
        print("`xferlab failures` shows tracebacks, and what to do")
    if counts["stale"]:
        print("stale trials resume from their last checkpoint when the study is run again")
    print(", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "no trial")


class _Stored(NamedTuple):
    """What a storage holds of a trial that has begun."""

    history: Sequence[EpochResult] = ()
    failure: Mapping[str, Any] | None = None
    attempts: Sequence[Mapping[str, Any]] = ()

    @property
    def reached(self) -> tuple[int, float | None]:
        """Finished epochs and the best score."""
        best = next((epoch.score for epoch in reversed(self.history) if epoch.improved), None)
        return len(self.history), best


def states(store: Store, study: str, trials: Sequence[PlannedTrial]) -> list[dict[str, Any]]:
    """Returns a row for each trial, parents before children.

    A row has name, trial_id, arms, stage, state (of `STATES`), epochs, max_epochs and best_score;
    `host` and `since` where an attempt was begun and has not ended, `failure` and `attempts` where it failed;
    `continues` (trial_id and epoch) where it waits and will continue another trial; `stopped_by` where it is
    complete.
    """
    complete = complete_trials(store, study, trials)
    present = set(store.list(layout.TRIALS)) - complete.keys()
    begun = [trial.trial_id for trial in trials if trial.trial_id in present]
    with ThreadPoolExecutor(_READERS) as pool:
        stored = dict(zip(begun, pool.map(lambda trial_id: _read(store, trial_id), begun), strict=True))
    driven = _driven(store, study, trials, stored)
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
    }
    if continues := row.get("continues"):
        return "waiting; continues trial {trial_id} after epoch {epoch}".format_map(continues)
    return words.get(row["state"], "{state}").format_map(row)


def _read(store: Store, trial_id: str) -> _Stored:
    try:
        history = reader.read_history(store, trial_id)
    except StorageError:  # a damaged file must not hide the states of the others
        history = []
    attempts = reader.read_run(store, trial_id).get("attempts", [])
    return _Stored(history, reader.read_failure(store, trial_id), attempts)


def _open_state(stored: _Stored, is_driven: bool, parents: Iterable[str]) -> dict[str, Any]:
    if stored.failure is not None:
        return {"state": "failed", "failure": dict(stored.failure), "attempts": len(stored.attempts)}
    if any(state in ("failed", "blocked") for state in parents):
        return {"state": "blocked"}
    if attempt := _unended(stored):
        state = "running" if is_driven else "stale"
        return {"state": state, "host": attempt["host"], "since": attempt["started"]}
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
            planned = {trial.trial_id for trial in trials} if name == study else _planned(store, name)
            since = datetime.fromisoformat(holder.since) - _SKEW
            driven |= {
                trial_id
                for trial_id in planned & unended.keys()
                if datetime.fromisoformat(unended[trial_id]["started"]) >= since
            }
    return driven


def _planned(store: Store, study: str) -> set[str]:
    """The ids of the trials in the last plan of a study; none if there is no plan or it is damaged."""
    try:
        plan = codec.read_json(store, layout.StudyFiles(study).plan) or {}
    except RecordError:
        return set()
    return {trial["trial_id"] for trial in plan.get("trials", ())}
