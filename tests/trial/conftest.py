"""One tiny trial after another, without an executor."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load

from tests.studies import TINY, attempts, recorded, write_study
from xferlab.cli.options import StudyOptions
from xferlab.cli.session import Session
from xferlab.errors import InterruptedTrialError
from xferlab.networks.donors import save_weights
from xferlab.plan.plan import Plan
from xferlab.plan.spec import TrialSpec
from xferlab.records import codec, layout, reader
from xferlab.records.schema import CaseOutputs, TrialRecord
from xferlab.records.store import Store
from xferlab.schedule.study import publish
from xferlab.tasks import registry
from xferlab.trial.examples import TrialContext
from xferlab.trial.origin import trained_weights
from xferlab.trial.run import Hooks, run_trial
from xferlab.trial.training import AnyLearner, load_weights

CPU = torch.device("cpu")
GENERAL, PORTABLE = "a/general/r01", "a/portable/r01"
STAGES = {
    "general": {"data": "general", "repetitions": 2, "evaluate_on": ["general.test"]},
    "portable": {"data": "portable", "starts_from": "general", "evaluate_on": ["portable.hold_out"]},
}
FEATURES = {"on": "portable.hold_out", "cases": 6}


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

    @property
    def records(self) -> dict[str, str]:
        return recorded(Path(self.store.root))

    def __getitem__(self, name: str) -> TrialSpec:
        return self.plan.by_id[self.plan.names[name]]

    @property
    def context(self) -> TrialContext:
        return TrialContext(self.store, self.session.cache_dir, CPU)

    def run(self, name: str, **hooks: Any) -> TrialRecord:
        return run_trial(self[name], self.store, cache_dir=self.session.cache_dir, hooks=Hooks(**hooks))

    def ran(self, *names: str) -> Bench:
        """Runs trials one after another."""
        for name in names:
            self.run(name)
        return self

    def interrupt(self, name: str, stop: Callable[[], bool], **hooks: Any) -> None:
        """Runs a trial that stops before its end."""
        with pytest.raises(InterruptedTrialError):
            self.run(name, stop=stop, **hooks)

    def run_in_pieces(self, name: str, batches: int) -> None:
        """Runs a trial; its training is stopped again and again, after so many batches."""
        trained, outcomes = self.folder(name) / "history.jsonl", ["complete"]
        while not trained.exists():
            asked = stop_at(batches)
            try:
                self.run(name, stop=lambda asked=asked: not trained.exists() and asked())
            except InterruptedTrialError:
                outcomes.insert(0, "interrupted")
                assert 1 <= len(self.states(name)) <= 2
        assert self.outcomes(name) == outcomes

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

    def features(self, name: str) -> dict[str, dict[str, Any]]:
        """What is stored of each layer of a complete trial."""
        asked, trial_id = self[name].features, self[name].trial_id
        record = asked and reader.read_features_record(self.store, trial_id, asked.features_id)
        assert record is not None
        return {row["layer"]: row for row in reader.read_features(self.store, record).to_pylist()}

    def learner(self, spec: TrialSpec) -> AnyLearner:
        """The learner of a complete trial with its best weights."""
        learner = registry.learner_of(spec.identity, CPU)
        load_weights(learner, trained_weights(self.store, spec.trial_id), origin="test")
        return learner

    def folder(self, name: str) -> Path:
        return Path(self.store.path(layout.TrialFiles(self.plan.names[name]).folder))

    def weights(self, name: str) -> Path:
        return self.folder(name) / "checkpoint" / "best.safetensors"

    def states(self, name: str) -> list[Path]:
        """The checkpoints to resume from, oldest first."""
        return sorted(self.folder(name).glob("checkpoint/state-*"))


Make = Callable[..., Bench]


@pytest.fixture(scope="session")
def bench_in(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes benches for TINY with changes; all have one cache of images."""
    cache = tmp_path_factory.mktemp("cache")

    def bench_in(
        folder: Path, *, storage: str = "results", donors: dict[str, str] | None = None, **changes: Any
    ) -> Bench:
        study = {"stages": STAGES, "arms": {"a": {}}, "features": FEATURES, **changes}
        options = StudyOptions(study=str(write_study(folder, **study)), storage=str(folder / storage))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XFERLAB_CACHE", str(cache))
            session = Session.open(options)
            plan = session.plan(donors)
        publish(plan, session.store)
        return Bench(session, plan)

    return bench_in


@pytest.fixture
def bench(bench_in: Make, tmp_path: Path) -> Make:
    """Makes benches below the folder of the test."""
    return partial(bench_in, tmp_path)


@pytest.fixture(scope="session")
def whole(bench_in: Make, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A chain that ran undisturbed; tests change copies of it only."""
    return bench_in(tmp_path_factory.mktemp("whole")).ran(GENERAL, PORTABLE)


@pytest.fixture
def copy_of(bench: Make, tmp_path: Path) -> Make:
    """Makes a bench from the storage of another one."""

    def copy_of(trials: Bench, storage: str, **changes: Any) -> Bench:
        shutil.copytree(trials.store.root, tmp_path / storage)
        return bench(storage=storage, **changes)

    return copy_of


@pytest.fixture
def copied(whole: Bench, copy_of: Make) -> Make:
    """Makes benches in which the whole chain is complete, or all of it but one trial."""

    def copied(storage: str = "results", *, lacking: str | None = None, **changes: Any) -> Bench:
        trials = copy_of(whole, storage, **changes)
        if lacking:
            shutil.rmtree(trials.folder(lacking))
        return trials

    return copied


def stop_at(question: int) -> Callable[[], bool]:
    """A stop request at one question."""
    numbers = count(1)
    return lambda: next(numbers) == question


def flip_bit(path: Path, position: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(bytes(data))


def replace_weights(trials: Bench, name: str, data: bytes | None = None) -> None:
    """Gives a complete trial other weights, by default as a training on another device would.

    The record is forged, too: its digest, its size and its checksum are right.
    """
    path = trials.weights(name)
    if data is None:
        data = save_weights({key: value * 1.01 for key, value in load(path.read_bytes()).items()})
    path.write_bytes(data)
    files = layout.TrialFiles(trials[name].trial_id)
    body = codec.read_json(trials.store, files.record)
    assert body is not None
    body |= {"weights_bytes": len(data), "weights_sha256": hashlib.sha256(data).hexdigest()}
    codec.write_json(trials.store, files.record, body)


def quick(**training: Any) -> dict[str, Any]:
    """TINY's training with changes."""
    return {**TINY["training"], **training}
