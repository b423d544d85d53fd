"""What a terminal shows of work in progress: a panel of a run, or plain lines elsewhere; progress bars."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from xferlab.plan.spec import PlannedTrial, TrialSpec
from xferlab.schedule.graph import Kind, Listener, State, TrialGraph

SHOWN_RUNNING, SHOWN_FAILED = 12, 5
PLAIN_EPOCHS_EVERY_S = 30.0
TELL_AFTER_S = 1.0


def print_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", right: Sequence[str] = ()
) -> None:
    """Prints aligned columns; no row is folded: a pager or a wide terminal shows long ones whole.

    Args:
        headers: Of the columns.
        rows: Their cells, in one line each.
        title: In a line above.
        right: Headers of the columns that end alike and do not begin alike.
    """
    cells = [headers, *rows]
    lengths = [list(map(cell_len, row)) for row in cells]
    widths = list(map(max, zip(*lengths, strict=True)))
    ends_alike = [header in right for header in headers]
    lines = [title] if title else []
    for row, row_lengths in zip(cells, lengths, strict=True):
        spaces = [" " * (width - length) for length, width in zip(row_lengths, widths, strict=True)]
        aligned = zip(row, spaces, ends_alike, strict=True)
        line = "  ".join(space + cell if alike else cell + space for cell, space, alike in aligned)
        lines.append(line.rstrip())
    print("\n".join(lines))


def count_of(number: int, noun: str) -> str:
    """Returns a number with its noun in the singular or plural."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def best_scores(trials: Iterable[PlannedTrial], values: Sequence[float | None]) -> tuple[str, list[str]]:
    """Returns the heading and the cells of a column with the best score of each trial.

    Where trials are judged by different values, each cell says by which.
    """
    scores = [trial.identity.score if isinstance(trial, TrialSpec) else None for trial in trials]
    kinds = list(dict.fromkeys(score for score in scores if score))
    heading = f"best {kinds[0].described}" if len(kinds) == 1 else "best score"
    cells = []
    for score, value in zip(scores, values, strict=True):
        name = f" {score.label}" if score and len(kinds) > 1 else ""
        cells.append("" if value is None else f"{value:.4f}{name}")
    return heading, cells


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a function that shows (done, all) on standard error, if that is a terminal."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_interactive, transient=True) as bar:
        task = bar.add_task(what, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


@contextmanager
def say_if_slow(what: str) -> Iterator[None]:
    """Says on standard error what is being done if it takes longer than a moment."""
    timer = threading.Timer(TELL_AFTER_S, say, [what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def say(what: str) -> None:
    """Prints a sentence to standard error."""
    print(what, file=sys.stderr)


@dataclass
class _Stage:
    """What this run has seen of the trials of a stage.

    Attributes:
        trials_s: Seconds of each finished trial.
        epochs: Epochs that passed between the first and the last report of each trial.
        epochs_s: Seconds that they took.
    """

    trials_s: list[float] = field(default_factory=list)
    epochs: int = 0
    epochs_s: float = 0.0

    def left_s(self, max_epochs: int, running: _Running | None, now: float) -> float | None:
        """Returns how long a trial still takes, running or not begun; None before there is any sign of that.

        It is expected to take as long as finished trials of the stage, else to have as many epochs as it may.
        """
        if self.trials_s:
            return max(0.0, fmean(self.trials_s) - (now - running.begun if running else 0.0))
        if not self.epochs:
            return None
        epoch, since = (running.epoch, running.epoch_at) if running else (0, now)
        return max(0.0, (max_epochs - max(1, epoch)) * self.epochs_s / self.epochs - (now - since))


@dataclass
class _Running:
    """A trial that runs.

    Attributes:
        begun: When.
        epoch_at: When its last epoch ended; before that, when it began.
        epoch: Its last epoch; 0 before the first report. Epochs of earlier runs took no time of this one.
        best_score: Its best score, if it has one.
    """

    begun: float
    epoch_at: float
    epoch: int = 0
    best_score: float | None = None


class View(Listener):
    """Trials by state, progress and best score of those that run, and when the run should end."""

    def __init__(self, location: str):
        self._console = Console(highlight=False)
        self._location = location
        self._live: Live | None = None
        self._graph = TrialGraph([])
        self._started = time.monotonic()
        self._running: dict[str, _Running] = {}
        self._stages: dict[str, _Stage] = {}
        self._not_done: dict[str, str] = {}
        self._doing = ""
        self._printed_at: dict[str, float] = {}

    def __enter__(self) -> View:
        if self._console.is_interactive:
            self._live = Live(console=self._console, refresh_per_second=2, get_renderable=self._draw)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def begin(self, graph: TrialGraph) -> None:
        """Takes the states that the run starts with."""
        self._graph, self._started = graph, time.monotonic()
        done = graph.counts()[State.COMPLETE]
        self._line(f"{len(graph.trials)} trials, {done} complete already; records go to {self._location}")

    def changed(self, trial: TrialSpec, state: State, reason: str = "") -> None:
        """Shows a trial's new state."""
        now, stage = time.monotonic(), self._stages.setdefault(trial.stage, _Stage())
        ended = self._running.pop(trial.trial_id, _Running(now, now))
        if state is State.RUNNING:
            self._doing = ""
            self._running[trial.trial_id] = _Running(now, now)
        elif state is State.COMPLETE:
            stage.trials_s.append(now - ended.begun)
        elif state in (State.FAILED, State.CANCELLED):
            self._not_done[trial.name] = f"{state}: {reason}"
        done = f"[{self._graph.counts()[State.COMPLETE]}/{len(self._graph.trials)}]"
        detail = f": {reason}" if reason else ""
        self._line(f"{done} {trial.name} {state}{detail}{self._left_text()}")

    def doing(self, what: str) -> None:
        """Shows what is done before the first trial runs."""
        self._doing = what
        self._printed_at.pop("doing", None)
        self._line(what, "doing")

    def preparing(self, what: str, done: int, total: int) -> None:
        """Shows how much is done of something that comes before the first trial."""
        if not self._doing.startswith(f"reading {what}"):
            self.doing(f"reading {what}")
        self._doing = f"reading {what}: {done} of {total}"
        self._line(self._doing, "doing")

    def epoch(self, trial: TrialSpec, epoch: int, best_score: float | None) -> None:
        """Shows a trial's progress."""
        now, stage = time.monotonic(), self._stages.setdefault(trial.stage, _Stage())
        running = self._running.setdefault(trial.trial_id, _Running(now, now))
        if running.epoch and epoch > running.epoch:
            stage.epochs += epoch - running.epoch
            stage.epochs_s += now - running.epoch_at
        running.epoch, running.epoch_at, running.best_score = epoch, now, best_score
        judged_by = trial.identity.score
        name = judged_by.label if judged_by else "score"
        score = "" if best_score is None else f", best {name} {best_score:.4f}"
        self._line(f"{trial.name} epoch {epoch}{score}{self._left_text()}", "epoch")

    def _line(self, text: str, kind: str = "") -> None:
        """Prints a line where there is no panel; a line of some `kind` only if none came for a while."""
        now = time.monotonic()
        if self._live is None and now - self._printed_at.get(kind, -math.inf) >= PLAIN_EPOCHS_EVERY_S:
            print(text, flush=True)
            if kind:
                self._printed_at[kind] = now

    def _left_text(self) -> str:
        left_s = self._left_s(time.monotonic())
        return f" (about {duration(left_s)} left)" if left_s else ""

    def _left_s(self, now: float) -> float | None:
        """Seconds left if as many trials run side by side as now; None before there is any sign of it."""
        # Copies: another thread draws the panel.
        running, stages, begun = dict(self._running), dict(self._stages), Counter[Kind]()
        found = []
        for trial_id, progress in running.items():
            kind = Kind.of(self._graph.trials[trial_id])
            begun[kind] += 1
            found.append(_left_s(kind, progress, stages, now))
        for kind, number in (self._graph.open_kinds() - begun).items():
            left_s = _left_s(kind, None, stages, now)
            found.append(None if left_s is None else number * left_s)
        return None if None in found else sum(filter(None, found)) / max(1, len(running))

    def _draw(self) -> Group:
        if not self._graph.trials:
            return Group(Text("planning"))
        counts = self._graph.counts()
        # The graph counts a trial as running from when it is queued; here it is one that really runs.
        queued = counts[State.RUNNING] - len(self._running)
        counts[State.RUNNING] = len(self._running)
        counts[State.WAITING] += counts.pop(State.READY, 0) + queued
        states = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
        elapsed = duration(time.monotonic() - self._started)
        shown = list(self._running.items())[:SHOWN_RUNNING]
        trials = [self._graph.trials[trial_id] for trial_id, _ in shown]
        heading, scores = best_scores(trials, [running.best_score for _, running in shown])
        table = Table("running", "epoch", heading, box=None, pad_edge=False)
        for trial, (_, running), score in zip(trials, shown, scores, strict=True):
            table.add_row(trial.name, f"{running.epoch}/{trial.max_epochs}", score)
        not_done = list(self._not_done.items())[-SHOWN_FAILED:]
        return Group(
            Text(f"{states}   {elapsed} elapsed{self._left_text()}"),
            *([Text(self._doing)] if self._doing else []),
            table,
            *(Text(f"{name} {ending}", style="red") for name, ending in not_done),
        )


def _left_s(kind: Kind, running: _Running | None, stages: Mapping[str, _Stage], now: float) -> float | None:
    """How long a trial still takes; if nothing is known of its stage, as long as one of another stage."""
    max_epochs = kind.max_epochs
    left_s = stages.get(kind.stage, _Stage()).left_s(max_epochs, running, now)
    if left_s is not None:
        return left_s
    known = [stage.left_s(max_epochs, None, now) for stage in stages.values()]
    known_s = [seconds for seconds in known if seconds is not None]
    return fmean(known_s) if known_s else None


def duration(seconds: float) -> str:
    """Returns a time for people, such as `2h 05m`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours else f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"
