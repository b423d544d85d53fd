"""`xferlab watch`: a running study, seen from any machine that reaches its storage."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from statistics import fmean
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from xferlab.cli.last_plan import StudyComparison, compare
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import WatchOptions
from xferlab.cli.output import is_lost
from xferlab.cli.status import all_complete, chosen_states, counts_of, described, scores_of, tell_states
from xferlab.cli.view import SHOWN_FAILED, SHOWN_RUNNING, duration

WATCH_EVERY_S = 5.0
PLAIN_EVERY_S = 60.0
OPEN = ("waiting", "running", "stale", "interrupted")
"""States in which a trial has epochs left."""

Row = Mapping[str, Any]


def run(options: WatchOptions) -> int:
    """Shows a study until its trials are complete; exit code 1 if somebody stops watching before."""
    now = compare(options)
    console = Console(highlight=False)
    lines = _Lines()
    with ExitStack() as stack:
        live = None
        if console.is_interactive:
            live = stack.enter_context(Live(console=console, auto_refresh=False))
        now.print_remarks()
        while True:
            rows = chosen_states(options, now)
            tell_states(rows, now)
            if live:
                live.update(_panel(rows, now), refresh=True)
            else:
                lines.show(rows)
            is_complete = all_complete(rows, now)
            if is_complete or is_lost(sys.stdout):
                return COMPLETE if is_complete else INCOMPLETE
            try:
                time.sleep(WATCH_EVERY_S)
            except KeyboardInterrupt:  # how one stops watching
                return INCOMPLETE


def left_s(rows: Collection[Row]) -> tuple[dict[str, float], float | None]:
    """Returns how long each running trial still takes, by id, and all open trials together, in seconds.

    A trial is expected to have as many epochs as the complete ones of its stage on average, else as many as
    it may; each takes as long as its own last ones, else as those of its stage, else as those of all. As many
    trials run side by side as now. The sum is None before any epoch has ended.
    """
    epochs: dict[str, list[int]] = defaultdict(list)
    paces: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["state"] == "complete":
            epochs[row["stage"]].append(row["epochs"])
        if row.get("epoch_s"):
            paces[row["stage"]].append(row["epoch_s"])
    of_all = [pace for of_stage in paces.values() for pace in of_stage]
    if not of_all:
        return {}, None
    left: dict[str, float] = {}
    for row in (row for row in rows if row["state"] in OPEN):
        epoch_s = row.get("epoch_s") or fmean(paces[row["stage"]] or of_all)
        expected = fmean(epochs[row["stage"]] or [row["max_epochs"]])
        left[row["trial_id"]] = max(1.0, expected - row["epochs"]) * epoch_s
    running = {row["trial_id"] for row in rows if row["state"] == "running"}
    total_s = sum(left.values()) / max(1, len(running))
    return {trial_id: seconds for trial_id, seconds in left.items() if trial_id in running}, total_s


def _panel(rows: Sequence[Row], now: StudyComparison[Any]) -> Group:
    of_running, total_s = left_s(rows)
    running = [row for row in rows if row["state"] == "running"]
    shown = running[:SHOWN_RUNNING]
    heading, scores = scores_of(shown, now.trials)
    table = Table("running", "on", "epoch", heading, "s / epoch", "left", box=None, pad_edge=False)
    for row, score in zip(shown, scores, strict=True):
        left = of_running.get(row["trial_id"])
        table.add_row(
            row["name"],
            row["host"],
            f"{row['epochs']}/{row['max_epochs']}",
            score,
            f"{row['epoch_s']:.1f}" if row.get("epoch_s") else "",
            "" if left is None else f"about {duration(left)}",
        )
    more = len(running) - len(shown)
    failed = [row for row in rows if row["state"] in ("failed", "cancelled")][-SHOWN_FAILED:]
    return Group(
        Text(_summary(rows, total_s)),
        *([table] if running else []),
        *([Text(f"and {more} more")] if more else []),
        *(Text(_told(row), style="red") for row in failed),
    )


def _summary(rows: Collection[Row], total_s: float | None) -> str:
    return counts_of(rows) + (f" (about {duration(total_s)} left)" if total_s else "")


def _told(row: Row) -> str:
    if failure := row.get("failure"):
        return f"{row['name']} failed: {failure['type']}: {failure['message']}"
    return f"{row['name']} {described(row) if row['state'] == 'cancelled' else row['state']}"


class _Lines:
    """What is printed where there is no terminal: changes at once, progress once a minute."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._printed_at = float("-inf")

    def show(self, rows: Collection[Row]) -> None:
        """Prints what is new."""
        before, self._states = self._states, {row["trial_id"]: row["state"] for row in rows}
        changed = [row for row in rows if before and before.get(row["trial_id"]) != row["state"]]
        for row in changed:
            print(_told(row))
        if changed or time.monotonic() - self._printed_at >= PLAIN_EVERY_S:
            print(_summary(rows, left_s(rows)[1]), flush=True)
            self._printed_at = time.monotonic()
