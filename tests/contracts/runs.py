"""Runs of real small studies through an executor, with all that a listener hears."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.studies import recorded, write_study
from xferlab.cli.session import Session
from xferlab.plan.plan import Plan
from xferlab.plan.spec import TrialSpec
from xferlab.schedule import in_process
from xferlab.schedule.graph import State, TrialGraph
from xferlab.schedule.retry_policy import Ending, RetryPolicy
from xferlab.schedule.stop import StopRequest
from xferlab.schedule.study import Outcome, run_study

Execute = Callable[..., Ending]


@dataclass
class Heard:
    """A listener that remembers.

    Attributes:
        events: (trial's name, state, reason), in order.
        on_epoch: Called with every epoch's trial.
    """

    events: list[tuple[str, State, str]] = field(default_factory=list)
    on_epoch: Callable[[TrialSpec], None] = lambda trial: None
    epochs: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def begin(self, graph: TrialGraph) -> None:
        self.events.clear()

    def changed(self, trial: TrialSpec, state: State, reason: str = "") -> None:
        self.events.append((trial.name, state, reason))

    def epoch(self, trial: TrialSpec, epoch: int, best_loss: float) -> None:
        self.epochs.setdefault(trial.name, []).append((epoch, best_loss))
        self.on_epoch(trial)

    def when(self, name: str, state: State) -> int:
        """Position of the last such event."""
        return max(number for number, event in enumerate(self.events) if event[:2] == (name, state))

    def reason(self, name: str) -> str:
        """Why a trial failed or is blocked."""
        return next(reason for trial, _, reason in reversed(self.events) if trial == name and reason)

    def times(self, name: str, state: State) -> int:
        return sum(event[:2] == (name, state) for event in self.events)


@dataclass
class Lab:
    """A folder with a study, its storage, and a way to execute it."""

    folder: Path
    execute: Execute
    heard: Heard = field(default_factory=Heard)

    def study(self, **changes: Any) -> Session:
        path = write_study(self.folder, **changes)
        return Session.open(Namespace(study=str(path), profile=None, storage=str(self.storage)))

    @property
    def storage(self) -> Path:
        return self.folder / "results"

    def run(self, session: Session, plan: Plan | None = None) -> Outcome:
        plan = plan or session.plan()

        def execute(policy: RetryPolicy) -> Ending:
            with StopRequest() as stop:
                return self.execute(policy, cache_dir=session.cache_dir, stop=stop)

        return run_study(plan, session.store, execute, listener=self.heard, trials=plan.trials)

    def states(self, outcome: Outcome) -> dict[str, State]:
        return {
            trial.name: outcome.graph.states[trial_id] for trial_id, trial in outcome.graph.trials.items()
        }

    def trial_dir(self, plan: Plan, name: str) -> Path:
        return self.storage / "trials" / plan.names[name]

    def obstruct(self, *trial_ids: str) -> list[Path]:
        """A folder where the history goes: every attempt fails until it is removed."""
        obstacles = [self.storage / "trials" / trial_id / "progress.jsonl" for trial_id in trial_ids]
        for obstacle in obstacles:
            obstacle.mkdir(parents=True)
        return obstacles

    def recorded_in_process(self, **changes: Any) -> dict[str, str]:
        """What the plain executor records of the same study in a folder beside."""
        plain = Lab(self.folder / "plain", in_process.execute)
        plain.folder.mkdir()
        plain.run(plain.study(**changes))
        return recorded(plain.storage)
