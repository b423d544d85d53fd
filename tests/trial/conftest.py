"""One tiny trial after another, without an executor."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.studies import TINY, attempts, write_study
from xferlab.cli.session import Session
from xferlab.errors import InterruptedTrialError
from xferlab.plan.expand import Plan
from xferlab.plan.spec import TrialSpec
from xferlab.records import layout, reader
from xferlab.records.schema import CaseOutputs, TrialRecord
from xferlab.records.store import Store
from xferlab.schedule.study import publish

GENERAL, PORTABLE = "a/general/r01", "a/portable/r01"
STAGES = {
    "general": {"data": "general", "repetitions": 2, "evaluate_on": ["general.test"]},
    "portable": {"data": "portable", "starts_from": "general", "evaluate_on": ["portable.hold_out"]},
}


@dataclass
class Bench:
    """A published study whose trials are run one by one.

    Attributes:
        session: The study and its storage.
        plan: Its plan.
    """

    session: Session
    plan: Plan

    @property
    def store(self) -> Store:
        return self.session.store

    def __getitem__(self, name: str) -> TrialSpec:
        return self.plan.by_id[self.plan.names[name]]

    def run(self, name: str, **hooks: Any) -> TrialRecord:
        from xferlab.trial.run import Hooks, run_trial

        return run_trial(self[name], self.store, cache_dir=self.session.cache_dir, hooks=Hooks(**hooks))

    def interrupt(self, name: str, stop: Callable[[], bool], **hooks: Any) -> None:
        """Runs a trial that stops before its end."""
        with pytest.raises(InterruptedTrialError):
            self.run(name, stop=stop, **hooks)

    def epochs(self, name: str) -> list[int]:
        """Runs a trial; returns the epochs that it trained for that."""
        epochs: list[int] = []
        self.run(name, on_epoch=lambda result, best_score: epochs.append(result.epoch))
        return epochs

    def attempts(self, name: str) -> list[dict[str, Any]]:
        return attempts(Path(self.store.root))[self[name].trial_id]

    def outcomes(self, name: str) -> list[str]:
        return [attempt["outcome"] for attempt in self.attempts(name)]

    def measured(self, name: str, variant: str = "") -> tuple[pd.DataFrame, list[CaseOutputs]]:
        """Values and outputs of the first evaluation of a complete trial that has the variant."""
        evaluation = next(item for item in self[name].evaluations if item.variant == variant)
        record = reader.read_evaluation(self.store, self[name].trial_id, evaluation.evaluation_id)
        assert record is not None
        cases = reader.read_cases(self.store, record).to_pandas()
        return cases, reader.read_outputs(self.store, record)

    def folder(self, name: str) -> Path:
        return Path(self.store.path(layout.TrialFiles(self.plan.names[name]).folder))

    def states(self, name: str) -> list[Path]:
        """The checkpoints to resume from, oldest first."""
        return sorted(self.folder(name).glob("checkpoint/*state-*"))


Make = Callable[..., Bench]


def bench_in(
    folder: Path, *, storage: str = "results", donors: dict[str, str] | None = None, **changes: Any
) -> Bench:
    """Makes a bench for TINY with changes; `storage` names a folder below the given one."""
    path = write_study(folder, **{"stages": STAGES, "arms": {"a": {}}, **changes})
    session = Session.open(Namespace(study=str(path), profile=None, storage=str(folder / storage)))
    plan = session.plan(donors)
    publish(plan, session.store)
    return Bench(session, plan)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes benches below the folder of the test."""
    monkeypatch.setenv("XFERLAB_CACHE", str(tmp_path / "cache"))
    return partial(bench_in, tmp_path)


def stop_at(question: int) -> Callable[[], bool]:
    """A stop request at one question."""
    numbers = count(1)
    return lambda: next(numbers) == question


def stop_every(questions: int) -> Callable[[], bool]:
    """A stop request at every multiple of a number of questions."""
    numbers = count(1)
    return lambda: next(numbers) % questions == 0


def flip_bit(path: Path, position: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(bytes(data))


def quick(**training: Any) -> dict[str, Any]:
    """TINY's training with changes."""
    return {**TINY["training"], **training}
