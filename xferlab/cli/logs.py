"""`xferlab logs`: what a trial has said, and what the driver and the mirror have said of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import LogsOptions
from xferlab.cli.output import is_lost, tell
from xferlab.cli.session import with_ancestors
from xferlab.cli.status import states
from xferlab.cli.trials import KnownTrials
from xferlab.plan.spec import PlannedTrial
from xferlab.records.logs import DRIVER, LogLine, LogReader
from xferlab.records.store import Store
from xferlab.schedule.lease import driver_of
from xferlab.tracking.notes import unmirrored

LOCAL_EVERY_S, REMOTE_EVERY_S = 1.0, 5.0


def run(options: LogsOptions) -> int:
    """Prints the lines of a trial; with `--follow`, exit code 1 if it ended and is not complete."""
    known = KnownTrials.of(options)
    trial_id = known.find(options.trial)
    told: list[dict[str, Any]] = []
    tell(trial_id=trial_id, lines=told)
    log, last, state = LogReader(known.store, trial_id), None, None if options.follow else "complete"
    studies = known.studies_of(trial_id)
    entries = known.plans[studies[0]]["trials"] if studies and options.follow else ()
    needed = with_ancestors([trial_id], list(map(PlannedTrial.from_entry, entries)))
    try:
        while True:
            is_over = state is not None
            for last in log.new_lines():
                print(_shown(last), flush=True)
                told.append(asdict(last))
            if is_over or is_lost(sys.stdout):
                break
            state = _end(known.store, studies, needed)
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


def _end(store: Store, studies: Sequence[str], needed: Sequence[PlannedTrial]) -> str | None:
    """Returns the state in which the last trial has ended; None while somebody works on it, or will.

    While a run of its arm goes on, a trial that failed, or is blocked, is tried again, unless that run has
    given up this trial or one that it needs. What an earlier run gave up counts for nothing then.
    """
    if not studies:
        return "unplanned"
    rows = states(store, studies[0], needed)
    state = str(rows[-1]["state"])
    if state in ("complete", "cancelled"):
        return state
    if state == "running":
        return None
    arms = set(needed[-1].arms)
    holders = (holder for study in studies if (holder := driver_of(store, study)))
    drivers = [driver for driver in holders if not driver.arms or arms.intersection(driver.arms)]
    if not drivers:
        return state
    since = max(datetime.fromisoformat(driver.since) for driver in drivers)
    is_final = any(
        row["state"] == "cancelled" or (row["state"] == "failed" and _gave_up(store, row["trial_id"], since))
        for row in rows
    )
    return state if state in ("failed", "blocked") and is_final else None


def _gave_up(store: Store, trial_id: str, since: datetime) -> bool:
    """Returns whether a driver has said since then that it does not try a trial again."""
    return any(
        (line.source, line.level) == (DRIVER, "ERROR") and datetime.fromisoformat(line.at) >= since
        for line in LogReader(store, trial_id).new_lines()
    )
