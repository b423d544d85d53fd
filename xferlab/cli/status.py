"""`xferlab status`: the state of every trial, and why the failed ones failed."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from xferlab.cli.last_plan import StudyComparison, study_now
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import StatusOptions
from xferlab.cli.output import is_lost
from xferlab.cli.session import Session
from xferlab.cli.states import STATES, described, states
from xferlab.cli.view import wide_console
from xferlab.errors import UsageError, suggest

WATCH_EVERY_S = 5.0


def run(options: StatusOptions) -> int:
    """Prints states; exit code 1 unless all trials (of the stage and arm asked for) are complete."""
    session = Session.open(options)
    now = study_now(session)
    _check(options, session, now)
    before: list[dict[str, Any]] | None = None
    done: dict[str, dict[str, Any]] = {}
    while True:
        left = [trial for trial in now.trials if trial.trial_id not in done]  # what is complete stays so
        fresh = {row["trial_id"]: row for row in states(session.store, session.study, left)}
        rows = [fresh.get(trial.trial_id) or done[trial.trial_id] for trial in now.trials]
        done |= {row["trial_id"]: row for row in rows if row["state"] == "complete"}
        rows = [
            row
            for row in rows
            if options.arm in (None, *row["arms"]) and options.stage in (None, row["stage"])
        ]
        if rows != before:
            _show(rows, now, options, session)
        is_complete = not now.lacks_trials and all(row["state"] == "complete" for row in rows)
        if is_complete or not options.watch or is_lost(sys.stdout):
            return COMPLETE if is_complete else INCOMPLETE
        before = rows
        try:
            time.sleep(WATCH_EVERY_S)
        except KeyboardInterrupt:  # how one stops watching
            return INCOMPLETE


def _check(options: StatusOptions, session: Session, now: StudyComparison) -> None:
    if options.json and options.watch:
        raise UsageError("--watch shows a table; --json is printed once")
    arms = {arm for trial in now.trials for arm in trial.arms}
    stages = {trial.stage for trial in now.trials}
    for option, given, known in (
        ("arm", options.arm, arms),
        ("stage", options.stage, stages),
        ("state", options.state, set(STATES)),
    ):
        if given is not None and given not in known:
            raise UsageError(
                f"--{option}: there is no {option} {given!r} in {session.loaded.path}; accepted: "
                f"{', '.join(sorted(known))}.{suggest(given, known)}"
            )


def _show(rows: list[dict[str, Any]], now: StudyComparison, options: StatusOptions, session: Session) -> None:
    counts = Counter(row["state"] for row in rows)
    shown = [row for row in rows if options.state in (None, row["state"])]
    remarks = now.remarks(session.words)
    if options.json:
        body = {"study": session.study, "remarks": remarks, "counts": counts, "trials": shown}
        print(json.dumps(body, indent=2))
        return
    if options.watch and sys.stdout.isatty():
        print("\x1b[H\x1b[2J", end="")
    print(*remarks, sep="\n", end="\n" if remarks else "")
    _print(shown, counts)


def _print(rows: Sequence[dict[str, Any]], counts: Counter[str]) -> None:
    console = wide_console()
    table = Table("trial", "id", "state", "epochs", "best score", box=None, pad_edge=False)
    for row in rows:
        shown = "" if row["best_score"] is None else f"{row['best_score']:.4f}"
        table.add_row(row["name"], row["trial_id"], described(row), str(row["epochs"]), shown)
    console.print(table)
    for row in rows:
        if failure := row.get("failure"):
            console.print(f"{row['name']}: {failure['type']}: {failure['message']}")
            console.print(f"  on {failure['host']} at {failure['when']}, after epoch {failure['epoch']}")
    if counts["failed"]:
        console.print("`xferlab failures` shows tracebacks, and what to do")
    if counts["stale"]:
        console.print("stale trials resume from their last checkpoint when the study is run again")
    console.print(", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "no trial")
