"""`xferlab logs`: what a trial has said, and what the driver and the mirror have said of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import LogsOptions
from xferlab.cli.output import is_lost, tell
from xferlab.cli.status import states
from xferlab.cli.trials import KnownTrials
from xferlab.plan.spec import PlannedTrial
from xferlab.records.logs import DRIVER, LogLine, LogReader
from xferlab.schedule.lease import driver_of
from xferlab.tracking import unmirrored

LOCAL_EVERY_S, REMOTE_EVERY_S = 1.0, 5.0


def run(options: LogsOptions) -> int:
    """Prints the lines of a trial; with `--follow`, exit code 1 if it ended and is not complete."""
    known = KnownTrials.of(options)
    trial_id = known.find(options.trial)
    told: list[dict[str, Any]] = []
    tell(trial_id=trial_id, lines=told)
    log, last, state = LogReader(known.store, trial_id), None, None if options.follow else "complete"
    try:
        while True:
            is_over = state is not None
            for last in log.new_lines():
                print(_shown(last), flush=True)
                told.append(asdict(last))
            if is_over or is_lost(sys.stdout):
                break
            state = _end(known, trial_id, last)
            if state is None:
                time.sleep(LOCAL_EVERY_S if known.store.is_local else REMOTE_EVERY_S)
    except KeyboardInterrupt:  # how one stops following
        return INCOMPLETE
    if last is None:
        print(f"nothing is said of trial {options.trial}; `xferlab status` shows its state", file=sys.stderr)
    for study in known.plans:
        if reason := unmirrored(known.store, study).get(trial_id):
            print(f"W&B: {reason}; `xferlab mirror` completes it", file=sys.stderr)
    return COMPLETE if state == "complete" else INCOMPLETE


def _shown(line: LogLine) -> str:
    level = "" if line.level == "INFO" else f" {line.level}"
    text = line.text.replace("\n", "\n    ")
    return f"{line.at[:19]}Z{level} {line.source} on {line.host} ({line.pid}): {text}"


def _end(known: KnownTrials, trial_id: str, last: LogLine | None) -> str | None:
    """Returns the state in which a trial has ended; None while somebody works on it, or will."""
    store = known.store
    trials = {
        study: list(map(PlannedTrial.from_entry, plan["trials"])) for study, plan in known.plans.items()
    }
    studies = [study for study, planned in trials.items() if any(t.trial_id == trial_id for t in planned)]
    if not studies:
        return "unplanned"
    needed = _with_ancestors(trial_id, trials[studies[0]])
    state = str(states(store, studies[0], needed)[-1]["state"])
    if state == "running":
        return None
    is_final = last is not None and (last.source, last.level) == (DRIVER, "ERROR")
    if state in ("complete", "blocked") or (state == "failed" and is_final):
        return state
    return None if any(driver_of(store, study) for study in studies) else state


def _with_ancestors(trial_id: str, planned: Collection[PlannedTrial]) -> list[PlannedTrial]:
    """Returns a trial, the last, and all that it takes anything from."""
    needed, chosen = {trial_id}, []
    for trial in reversed(list(planned)):  # children before those that they take from
        if trial.trial_id in needed:
            needed.update(trial.parents)
            chosen.append(trial)
    return chosen[::-1]
