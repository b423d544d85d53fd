"""What a scheduler tells whoever watches a run."""

from __future__ import annotations

from typing import Protocol

from xferlab.plan.spec import TrialSpec
from xferlab.schedule.graph import State, TrialGraph


class Listener(Protocol):
    """Watches a run; the command line's live view is one."""

    def begin(self, graph: TrialGraph) -> None:
        """The run starts with these states."""

    def changed(self, trial: TrialSpec, state: State, reason: str = "") -> None:
        """A trial's state changed; a failure comes with its reason."""

    def epoch(self, trial: TrialSpec, epoch: int, best_score: float | None) -> None:
        """A trial finished an epoch; `best_score` is its best so far."""


class Silent:
    """A listener that does nothing."""

    def begin(self, graph: TrialGraph) -> None:
        """Does nothing."""

    def changed(self, trial: TrialSpec, state: State, reason: str = "") -> None:
        """Does nothing."""

    def epoch(self, trial: TrialSpec, epoch: int, best_score: float | None) -> None:
        """Does nothing."""
