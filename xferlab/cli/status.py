"""`xferlab status`: where every trial stands, and why the failed ones failed."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from typing import Any

from rich.table import Table

from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.session import Session
from xferlab.cli.view import wide_console
from xferlab.errors import StorageError
from xferlab.plan.spec import TrialSpec
from xferlab.records import reader
from xferlab.records.complete import complete_ids
from xferlab.records.schema import EpochResult
from xferlab.records.store import Store


def run(options: Namespace) -> int:
    """Prints states; exit code 1 unless all trials are complete."""
    session = Session.open(options)
    plan = session.plan()
    rows = states(session.store, plan.trials)
    counts = Counter(row["state"] for row in rows)
    if options.json:
        print(json.dumps({"study": plan.loaded.base.study, "counts": counts, "trials": rows}, indent=2))
    else:
        _print(rows, counts)
    return COMPLETE if counts["complete"] == len(rows) else INCOMPLETE


def states(store: Store, trials: tuple[TrialSpec, ...]) -> list[dict[str, Any]]:
    """Returns a row for each trial; those of failed ones have their `failure`."""
    complete = complete_ids(store, trials)
    present = set(store.list("trials"))
    rows: list[dict[str, Any]] = []
    found: dict[str, str] = {}
    for trial in trials:
        row: dict[str, Any] = {"name": trial.name, "trial_id": trial.trial_id, "arms": list(trial.arms)}
        history = _history(store, trial.trial_id) if trial.trial_id in present else []
        failure = reader.read_failure(store, trial.trial_id) if trial.trial_id in present else None
        if trial.trial_id in complete:
            row["state"] = "complete"
        elif failure is not None:
            row["state"], row["failure"] = "failed", failure
        elif any(found.get(parent) in ("failed", "blocked") for parent in trial.parents):
            row["state"] = "blocked"
        else:
            row["state"] = "started" if history else "open"
        found[trial.trial_id] = row["state"]
        row["epochs"] = len(history)
        row["best_validation_loss"] = min((one.validation_loss for one in history), default=None)
        rows.append(row)
    return rows


def _history(store: Store, trial_id: str) -> list[EpochResult]:
    try:
        return reader.read_history(store, trial_id)
    except StorageError:  # a damaged file must not hide where the trials stand
        return []


def _print(rows: list[dict[str, Any]], counts: Counter[str]) -> None:
    console = wide_console()
    table = Table(box=None, pad_edge=False)
    for column in ("trial", "id", "state", "epochs", "best validation loss"):
        table.add_column(column)
    for row in rows:
        loss = row["best_validation_loss"]
        shown = "" if loss is None else f"{loss:.4f}"
        table.add_row(row["name"], row["trial_id"], row["state"], str(row["epochs"]), shown)
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
    console.print(", ".join(f"{number} {state}" for state, number in sorted(counts.items())))
