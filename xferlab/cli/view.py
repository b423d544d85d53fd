"""The live view of a run: a panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from xferlab.plan.spec import TrialSpec
from xferlab.schedule.ready import Board, State

SHOWN_RUNNING, SHOWN_FAILED = 12, 5
PLAIN_EPOCHS_EVERY_S = 30.0
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
        self._board: Board | None = None
        self._started = time.monotonic()
        self._progress: dict[str, tuple[int, float]] = {}
        self._begun: dict[str, float] = {}
        self._failed: dict[str, str] = {}
        self._rate = _Rate()
        self._printed_at = 0.0
        self._preparing = ""

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

    def begin(self, board: Board) -> None:
        """Takes the states that the run starts with."""
        self._board, self._started = board, time.monotonic()
        done = board.counts()[State.COMPLETE]
        self._rate = _Rate(board)
        self._line(f"{len(board.trials)} trials, {done} complete already; records go to {self._location}")

    def changed(self, trial: TrialSpec, state: State, reason: str = "") -> None:
        """Shows a trial's new state."""
        now = time.monotonic()
        if state is State.RUNNING:
            self._begun[trial.trial_id] = now
        elif state is State.COMPLETE:
            self._rate.finished(trial, now - self._begun.pop(trial.trial_id, now))
        elif state is State.FAILED:
            self._begun.pop(trial.trial_id, None)
            self._failed[trial.name] = reason
        counts = self._board.counts() if self._board else {}
        total = sum(counts.values())
        detail = f": {reason}" if reason else ""
        self._line(
            f"[{counts.get(State.COMPLETE, 0)}/{total}] {trial.name} {state}{detail}{self._eta_text()}"
        )

    def preparing(self, what: str, done: int, total: int) -> None:
        """Shows what is done before the first trial."""
        if not self._preparing:
            self._line(f"reading {what}")
        self._preparing = f"reading {what}: {done} of {total}" if done < total else ""

    def epoch(self, trial: TrialSpec, epoch: int, best_loss: float) -> None:
        """Shows a trial's progress."""
        self._progress[trial.trial_id] = (epoch, best_loss)
        if time.monotonic() - self._printed_at >= PLAIN_EPOCHS_EVERY_S:
            self._printed_at = time.monotonic()
            self._line(f"{trial.name} epoch {epoch}, best validation loss {best_loss:.4f}{self._eta_text()}")

    def _line(self, text: str) -> None:
        if self._live is None:
            print(text, flush=True)

    def _eta_text(self) -> str:
        left = self._rate.left_s(self._board, max(1, len(self._begun))) if self._board else None
        return f" (about {_duration(left)} left)" if left else ""

    def _draw(self) -> Group:
        if self._board is None:
            return Group(Text("planning"))
        counts = self._board.counts()
        # The board counts a trial as running from when it is queued; here it is one that really runs.
        queued = counts[State.RUNNING] - len(self._begun)
        counts[State.RUNNING] = len(self._begun)
        counts[State.WAITING] += counts.pop(State.READY, 0) + queued
        states = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
        elapsed = _duration(time.monotonic() - self._started)
        lines: list[Text | Table] = [Text(f"{states}   {elapsed} elapsed{self._eta_text()}")]
        if self._preparing:
            lines.append(Text(self._preparing))
        running = Table(box=None, pad_edge=False)
        for column in ("running", "epoch", "best validation loss"):
            running.add_column(column)
        for trial_id in list(self._begun)[:SHOWN_RUNNING]:
            trial = self._board.trials[trial_id]
            epoch, loss = self._progress.get(trial_id, (0, float("nan")))
            limit = trial.identity["training"]["max_epochs"]
            running.add_row(trial.name, f"{epoch}/{limit}", f"{loss:.4f}" if epoch else "")
        lines.append(running)
        lines += [
            Text(f"{name} failed: {why}", style="red")
            for name, why in list(self._failed.items())[-SHOWN_FAILED:]
        ]
        return Group(*lines)


class _Rate:
    """Mean duration of finished trials by stage; what is left follows from it."""

    def __init__(self, board: Board | None = None):
        self._seconds: dict[str, list[float]] = {}
        self._stages = {trial.stage for trial in board.trials.values()} if board else set()

    def finished(self, trial: TrialSpec, seconds: float) -> None:
        self._seconds.setdefault(trial.stage, []).append(seconds)

    def left_s(self, board: Board, running: int) -> float | None:
        """Seconds left if as many trials run side by side as now; None before any has finished."""
        if not self._seconds:
            return None
        # A copy: the panel is drawn by a thread of its own.
        means = {stage: sum(times) / len(times) for stage, times in dict(self._seconds).items()}
        overall = sum(means.values()) / len(means)
        open_states = (State.WAITING, State.READY, State.RUNNING)
        work = sum(
            means.get(board.trials[one].stage, overall) for one, s in board.states.items() if s in open_states
        )
        return work / running


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours else f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"
