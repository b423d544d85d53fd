"""The live view of a run: a panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from xferlab.plan.spec import TrialSpec
from xferlab.schedule.graph import State, TrialGraph

SHOWN_RUNNING, SHOWN_FAILED = 12, 5
PLAIN_EPOCHS_EVERY_S = 30.0
TELL_AFTER_S = 1.0
MIN_TABLE_WIDTH = 220


def wide_console() -> Console:
    """Returns a console that never folds a table: a pager or a wide terminal shows long rows whole."""
    return Console(highlight=False, soft_wrap=True, width=max(Console().width, MIN_TABLE_WIDTH))


class View:
    """Trials by state, progress and best validation loss of those that run, and when it should end."""

    def __init__(self, location: str):
        """Draws nothing yet; `location` is shown as where records go."""
        self._console = Console(highlight=False)
        self._location = location
        self._live: Live | None = None
        self._board: TrialGraph | None = None
        self._started = time.monotonic()
        self._progress: dict[str, tuple[int, float | None]] = {}
        self._begun: dict[str, float] = {}
        self._failed: dict[str, str] = {}
        self._rate = _Rate()
        self._printed_at = 0.0
        self._doing, self._doing_printed_at = "", 0.0

    def __enter__(self) -> View:
        """Starts drawing if this is a terminal."""
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=2, get_renderable=self._draw)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops drawing."""
        if self._live:
            self._live.stop()

    def begin(self, graph: TrialGraph) -> None:
        """Takes the states that the run starts with."""
        self._board, self._started = graph, time.monotonic()
        done = graph.counts()[State.COMPLETE]
        self._line(f"{len(graph.trials)} trials, {done} complete already; records go to {self._location}")

    def changed(self, trial: TrialSpec, state: State, reason: str = "") -> None:
        """Shows a trial's new state."""
        now = time.monotonic()
        begun = self._begun.pop(trial.trial_id, now)
        if state is State.RUNNING:
            self._doing = ""
            self._begun[trial.trial_id] = now
            self._progress.pop(trial.trial_id, None)
            self._rate.begun(trial, now)
        elif state is State.COMPLETE:
            self._rate.finished(trial, now - begun)
        elif state is State.FAILED:
            self._failed[trial.name] = reason
        counts = self._board.counts() if self._board else {}
        total = sum(counts.values())
        detail = f": {reason}" if reason else ""
        self._line(
            f"[{counts.get(State.COMPLETE, 0)}/{total}] {trial.name} {state}{detail}{self._eta_text()}"
        )

    def doing(self, what: str) -> None:
        """Shows what is done before the first trial runs."""
        self._doing, self._doing_printed_at = what, time.monotonic()
        self._line(what)

    def preparing(self, what: str, done: int, total: int) -> None:
        """Shows how much is done of something that comes before the first trial."""
        if not self._doing.startswith(f"reading {what}"):
            self.doing(f"reading {what}")
        self._doing = f"reading {what}: {done} of {total}"
        if time.monotonic() - self._doing_printed_at >= PLAIN_EPOCHS_EVERY_S:
            self.doing(self._doing)

    def epoch(self, trial: TrialSpec, epoch: int, best_score: float | None) -> None:
        """Shows a trial's progress."""
        self._progress[trial.trial_id] = (epoch, best_score)
        self._rate.epoch(trial, epoch, time.monotonic())
        if time.monotonic() - self._printed_at >= PLAIN_EPOCHS_EVERY_S:
            self._printed_at = time.monotonic()
            score = "" if best_score is None else f", best score {best_score:.4f}"
            self._line(f"{trial.name} epoch {epoch}{score}{self._eta_text()}")

    def _line(self, text: str) -> None:
        if self._live is None:
            print(text, flush=True)

    def _eta_text(self) -> str:
        left = self._rate.left_s(self._board, self._begun, time.monotonic()) if self._board else None
        return f" (about {_duration(left)} left)" if left else ""

    def _draw(self) -> Group:
        if self._board is None:
            return Group(Text("planning"))
        counts = self._board.counts()
        # The graph counts a trial as running from when it is queued; here it is one that really runs.
        queued = counts[State.RUNNING] - len(self._begun)
        counts[State.RUNNING] = len(self._begun)
        counts[State.WAITING] += counts.pop(State.READY, 0) + queued
        states = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
        elapsed = _duration(time.monotonic() - self._started)
        lines: list[Text | Table] = [Text(f"{states}   {elapsed} elapsed{self._eta_text()}")]
        if self._doing:
            lines.append(Text(self._doing))
        running = Table(box=None, pad_edge=False)
        for column in ("running", "epoch", "best score"):
            running.add_column(column)
        for trial_id in list(self._begun)[:SHOWN_RUNNING]:
            trial = self._board.trials[trial_id]
            epoch, score = self._progress.get(trial_id, (0, None))
            running.add_row(
                trial.name, f"{epoch}/{_max_epochs(trial)}", "" if score is None else f"{score:.4f}"
            )
        lines.append(running)
        lines += [
            Text(f"{name} failed: {why}", style="red")
            for name, why in list(self._failed.items())[-SHOWN_FAILED:]
        ]
        return Group(*lines)


@dataclass
class _Stage:
    """What this run has seen of the trials of a stage.

    Attributes:
        epochs: Epochs that passed between the first and the last report of each trial.
        epochs_s: Seconds that they took.
        lengths: Epochs of each finished trial, kept ones included.
        others_s: Seconds of each finished trial that no epoch explains: loading, the first epoch, evaluation.
    """

    epochs: int = 0
    epochs_s: float = 0.0
    lengths: list[int] = field(default_factory=list)
    others_s: list[float] = field(default_factory=list)

    @property
    def epoch_s(self) -> float | None:
        return self.epochs_s / self.epochs if self.epochs else None

    def length(self, max_epochs: int) -> float:
        """Returns how many epochs a trial is expected to have: as finished ones, else as many as it may."""
        return sum(self.lengths) / len(self.lengths) if self.lengths else max_epochs

    def whole_s(self, max_epochs: int) -> float | None:
        """Returns how long a trial takes from its start; None before there is any sign of that."""
        if self.epoch_s is None and not self.others_s:
            return None
        others_s = sum(self.others_s) / len(self.others_s) if self.others_s else 0.0
        return (self.length(max_epochs) - 1) * (self.epoch_s or 0.0) + others_s


class _Rate:
    """How long what is left will take: from epochs, and from trials that ended in this run.

    Epochs that a resumed trial kept took no time of this run, and count as done.
    """

    def __init__(self) -> None:
        self._stages: dict[str, _Stage] = {}
        self._reports: dict[str, list[tuple[int, float]]] = {}

    def begun(self, trial: TrialSpec, now: float) -> None:
        self._reports[trial.trial_id] = []

    def epoch(self, trial: TrialSpec, epoch: int, now: float) -> None:
        reports = self._reports.setdefault(trial.trial_id, [])
        if reports and epoch > reports[-1][0]:
            stage = self._stage(trial)
            stage.epochs += epoch - reports[-1][0]
            stage.epochs_s += now - reports[-1][1]
        self._reports[trial.trial_id] = [*reports[:1], (epoch, now)]

    def finished(self, trial: TrialSpec, seconds: float) -> None:
        reports, stage = self._reports.pop(trial.trial_id, []), self._stage(trial)
        if reports:
            stage.lengths.append(reports[-1][0])
        explained_s = reports[-1][1] - reports[0][1] if reports else 0.0
        stage.others_s.append(max(0.0, seconds - explained_s))

    def left_s(self, graph: TrialGraph, begun: Mapping[str, float], now: float) -> float | None:
        """Seconds left if as many trials run side by side as now; None before there is any sign of it."""
        # Copies: the panel is drawn by a thread of its own.
        running, stages = dict(begun), dict(self._stages)
        left = 0.0
        for trial_id, state in dict(graph.states).items():
            if state in (State.WAITING, State.READY, State.RUNNING):
                trial = graph.trials[trial_id]
                seconds = self._left_of(trial, running.get(trial_id), now)
                if seconds is None and (seconds := _mean_whole_s(stages.values(), trial)) is None:
                    return None
                left += seconds
        return left / max(1, len(running))

    def _left_of(self, trial: TrialSpec, begun: float | None, now: float) -> float | None:
        stage, max_epochs = self._stages.get(trial.stage, _Stage()), _max_epochs(trial)
        whole_s = stage.whole_s(max_epochs)
        if begun is None or whole_s is None:
            return whole_s
        reports = self._reports.get(trial.trial_id)
        if not reports or stage.epoch_s is None:
            return max(0.0, whole_s - (now - begun))
        epoch, at = reports[-1]
        return max(0.0, (stage.length(max_epochs) - epoch) * stage.epoch_s - (now - at))

    def _stage(self, trial: TrialSpec) -> _Stage:
        return self._stages.setdefault(trial.stage, _Stage())


def _mean_whole_s(stages: Iterable[_Stage], trial: TrialSpec) -> float | None:
    """Returns what is expected of a trial of whose stage nothing is known: as of the others."""
    known = [seconds for stage in stages if (seconds := stage.whole_s(_max_epochs(trial))) is not None]
    return sum(known) / len(known) if known else None


def _max_epochs(trial: TrialSpec) -> int:
    return int(trial.identity["training"]["max_epochs"])


def _say(what: str) -> None:
    print(what, file=sys.stderr)


@contextmanager
def say_if_slow(what: str) -> Iterator[None]:
    """Says on standard error what is being done if it takes longer than a moment."""
    timer = threading.Timer(TELL_AFTER_S, lambda: _say(what))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours else f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"
