"""One tiny trial after another, without an executor."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.studies import TINY, write_study
from xferlab.cli.session import Session
from xferlab.plan.expand import Plan
from xferlab.plan.spec import TrialSpec
from xferlab.records import layout
from xferlab.records.schema import TrialRecord
from xferlab.schedule.study import publish

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

    def __getitem__(self, name: str) -> TrialSpec:
        return self.plan.by_id[self.plan.names[name]]

    def run(self, name: str, **hooks: Any) -> TrialRecord:
        from xferlab.trial.run import Hooks, run_trial

        return run_trial(
            self[name], self.session.store, cache_dir=self.session.cache_dir, hooks=Hooks(**hooks)
        )

    def folder(self, name: str) -> Path:
        return Path(self.session.store.path(layout.TrialFiles(self.plan.names[name]).folder))


Make = Callable[..., Bench]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a bench for TINY with changes; `storage` names a folder below the test's own."""
    monkeypatch.setenv("XFERLAB_CACHE", str(tmp_path / "cache"))

    def make(*, storage: str = "results", donors: dict[str, str] | None = None, **changes: Any) -> Bench:
        path = write_study(tmp_path, **{"stages": STAGES, "arms": {"a": {}}, **changes})
        options = Namespace(study=str(path), profile=None, storage=str(tmp_path / storage))
        session = Session.open(options)
        plan = session.plan(donors)
        publish(plan, session.store)
        return Bench(session, plan)

    return make


def quick(**training: Any) -> dict[str, Any]:
    """TINY's training with changes."""
    return {**TINY["training"], **training}
