"""`xferlab status`: where every trial stands, and why the failed ones failed."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from xferlab.cli.last_plan import StudyComparison, study_now
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.output import is_lost
from xferlab.cli.session import Session, command_options
from xferlab.cli.states import STATES, described, states
from xferlab.cli.view import wide_console
from xferlab.errors import UsageError, suggest

WATCH_EVERY_S = 5.0


def run(options: Namespace) -> int:
    """Prints states; exit code 1 unless all trials (of the stage and arm asked for) are complete."""
    session = Session.open(options)
    now = study_now(session)
    _check(options, session, now)
    before: list[dict[str, Any]] | None = None
    done: dict[str, dict[str, Any]] = {}
    while True:
        left = [trial for trial in now.trials if trial.trial_id not in done]  # what is complete stays so
        fresh = {row["trial_id"]: row for row in states(session.store, session.loaded.base.study, left)}
        every = [fresh.get(trial.trial_id) or done[trial.trial_id] for trial in now.trials]
        done |= {row["trial_id"]: row for row in every if row["state"] == "complete"}
        rows = [row for row in every if _asked(row, options)]
        if rows != before:
            _show(rows, now, options, session)
        is_complete, before = not now.lacks_trials and _are_complete(rows), rows
        if is_complete or not options.watch or is_lost(sys.stdout):
            return COMPLETE if is_complete else INCOMPLETE
        try:
            time.sleep(WATCH_EVERY_S)
        except KeyboardInterrupt:  # how one stops watching
            return INCOMPLETE


def _are_complete(rows: Sequence[Mapping[str, Any]]) -> bool:
    return all(row["state"] == "complete" for row in rows)


def _check(options: Namespace, session: Session, now: StudyComparison) -> None:
    if options.json and options.watch:
        raise UsageError("--watch shows a table; --json is printed once")
    arms = {arm for trial in now.trials for arm in trial.arms}
    stages = {trial.stage for trial in now.trials}
    for option, known in (("arm", arms), ("stage", stages), ("state", set(STATES))):
        given = getattr(options, option)
        if given is not None and given not in known:
            raise UsageError(
                f"--{option}: there is no {option} {given!r} in {session.loaded.path}; accepted: "
                f"{', '.join(sorted(known))}.{suggest(given, known)}"
            )


def _asked(row: dict[str, Any], options: Namespace) -> bool:
    return options.arm in (None, *row["arms"]) and options.stage in (None, row["stage"])


def _show(rows: list[dict[str, Any]], now: StudyComparison, options: Namespace, session: Session) -> None:
    counts = Counter(row["state"] for row in rows)
    shown = [row for row in rows if options.state in (None, row["state"])]
    if options.json:
        body = {
            "study": session.loaded.base.study,
            "remarks": now.remarks(command_options(options)),
            "counts": counts,
            "trials": shown,
        }
        print(json.dumps(body, indent=2))
        return
    if options.watch and sys.stdout.isatty():
        print("\x1b[H\x1b[2J", end="")
    for remark in now.remarks(command_options(options)):
        print(remark)
    _print(shown, counts)


def _print(rows: Sequence[dict[str, Any]], counts: Counter[str]) -> None:
    console = wide_console()
    table = Table(box=None, pad_edge=False)
    for column in ("trial", "id", "state", "epochs", "best score"):
        table.add_column(column)
    for row in rows:
        score = row["best_score"]
        shown = "" if score is None else f"{score:.4f}"
        table.add_row(row["name"], row["trial_id"], described(row), str(row["epochs"]), shown)
    console.print(table)
    for row in rows:
        if "failure" in row:
            failure = row["failure"]
            console.print(f"{row['name']}: {failure['type']}: {failure['message']}", markup=False)
            console.print(
                f"  on {failure['host']} at {failure['when']}, after epoch {failure['epoch']}", markup=False
            )
    if counts["failed"]:
        console.print("`xferlab failures` shows tracebacks, and what to do")
    if counts["stale"]:
        console.print("stale trials resume from their last checkpoint when the study is run again")
    console.print(", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "no trial")
