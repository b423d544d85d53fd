"""What the loop, evaluation and prediction rely on: tests that every task's learner inherits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import Command
from tests.studies import recorded
from tests.training.learners import CPU, assert_resumes, copied, same
from xferlab.metrics.sets import FUNCTIONS, MACRO
from xferlab.networks.donors import read_weights, save_weights
from xferlab.study.evaluated import VARIANTS
from xferlab.tasks.config import TrialIdentity
from xferlab.tasks.registry import identity_of, learner_of, task
from xferlab.training.batches import Rows
from xferlab.training.learner import Learner
from xferlab.training.loop import Trainer, weights_of
from xferlab.training.sets import predicted_of
from xferlab.trial.training import load_weights, trainer_of


class LearnerContract:
    """A task's tests subclass it, and say what is learnt from what.

    Attributes:
        identity: Of a tiny trial with two epochs, whose options are all on.
        targets: Names of what it learns to tell.
        rounding: How far predictions of a case may differ between batches.
    """

    identity: TrialIdentity
    targets: tuple[str, ...] = ()
    rounding: float = 1e-6

    def examples(self) -> Any:
        """Returns at least five cases, new objects each time."""
        raise NotImplementedError

    def shown(self) -> Any:
        """Returns the cases that are predicted and measured."""
        return predicted_of(self.examples())

    def learner(self) -> Learner[Any, Any]:
        return learner_of(self.identity, CPU)

    def trainer(self) -> Trainer[Any, Any]:
        return trainer_of(self.identity, self.learner())

    def predictions(self, learner: Learner[Any, Any], rows: Collection[int]) -> list[np.ndarray]:
        return list(learner.predict(learner.load(self.shown(), np.array(rows), None)))

    def assert_an_epoch(self, batches: Sequence[Rows]) -> None:
        rows = np.concatenate(batches)
        assert len(set(rows.tolist())) == len(rows) == len(self.examples())

    def test_its_identity_survives_json(self) -> None:
        assert identity_of(self.identity.to_json()) == self.identity
        assert task(self.identity.task).identity is type(self.identity)

    def test_an_epoch_has_the_same_batches_again(self) -> None:
        plans = [self.learner().batches(self.examples(), epoch) for epoch in (2, 2, 3)]
        assert same([rows.tolist() for rows in plans[0]], [rows.tolist() for rows in plans[1]])
        assert not same([rows.tolist() for rows in plans[0]], [rows.tolist() for rows in plans[2]])
        self.assert_an_epoch(plans[0])

    def test_a_training_resumes_after_any_batch_bit_for_bit(self) -> None:
        assert len(assert_resumes(self.trainer, self.examples(), self.examples()).history) >= 2

    def test_without_a_draw_nothing_is_drawn(self) -> None:
        learner = self.learner()
        one, other = (learner.validate(self.examples()) for _ in range(2))
        assert same(one, other)
        assert same(*(self.predictions(learner, [0, 1]) for _ in range(2)))

    def test_validation_gives_the_score_and_changes_no_weight(self) -> None:
        learner = self.learner()
        before = {name: copied(network) for name, network in learner.networks.items()}
        values = learner.validate(self.examples())
        assert self.identity.score is None or self.identity.score.name in values
        assert all(np.isfinite(value) for value in values.values())
        assert same({name: copied(network) for name, network in learner.networks.items()}, before)

    def test_a_prediction_is_float32_and_blind_to_its_batch(self) -> None:
        learner = self.learner()
        together = self.predictions(learner, range(5))
        assert {prediction.dtype for prediction in together} == {np.dtype(np.float32)}
        for row, prediction in enumerate(together):
            (alone,) = self.predictions(learner, [row])
            np.testing.assert_allclose(alone, prediction, rtol=1e-5, atol=self.rounding)

    def test_a_case_is_measured_and_shown_as_the_task_declares(self) -> None:
        learner, examples = self.learner(), self.shown()
        (prediction,) = self.predictions(learner, [1])
        measured = learner.measure(examples, 1, prediction)
        assert tuple(measured) == task(self.identity.task).measured(self.targets)
        assert {type(value) for value in measured.values()} == {float}
        for array in learner.outputs(examples, 1, prediction).values():
            assert array.dtype.kind in "uif"
        given = learner.for_others(prediction, 0.5)
        arrays = {"structures": ["structures"], "classes": ["probability"], "": []}
        called = ["called"] if self.identity.calls_by else []
        assert list(given) == arrays[task(self.identity.task).targets] + called
        for array in given.values():
            assert array.dtype == np.float32 or set(np.unique(array)) <= {0, 255}
        image, targets = examples.case(1)[0][0], self.targets or self.identity.default_targets
        shown = learner.present(image, prediction, height=len(image), targets=targets, threshold=0.5)
        assert set(shown.files) <= set(task(self.identity.task).files(targets))
        assert set(task(self.identity.task).variants) <= set(VARIANTS)
        declared = task(self.identity.task).metrics(self.targets)
        assert {metric.computed_by for metric in declared} <= {"", MACRO, *FUNCTIONS}

    def test_an_ensemble_of_equal_networks_shows_what_one_shows(self) -> None:
        learner, examples, declared = self.learner(), self.shown(), task(self.identity.task)
        if declared.ensemble_files is None:
            return
        (prediction,) = self.predictions(learner, [1])
        image, targets = examples.case(1)[0][0], self.targets or self.identity.default_targets
        options: dict[str, Any] = {"height": len(image), "targets": targets, "threshold": 0.5}
        alone = learner.present(image, prediction, **options)
        shown = learner.present_ensemble(image, [prediction] * 3, **options)
        assert set(shown.files) == {*alone.files, *declared.ensemble_files}
        assert {name: shown.files[name] for name in alone.files} == alone.files
        same = {name: shown.columns[name] for name in alone.columns}
        assert same == pytest.approx(alone.columns, abs=2e-6)
        for name in ("disagreement", "mutual_information"):
            assert shown.columns[name] == pytest.approx(0.0, abs=1e-6)

    def test_weights_survive_their_file(self, tmp_path: Path) -> None:
        trained, learner = self.trainer(), learner_of(self.identity.model_copy(update={"seed": 77}), CPU)
        trained.epoch(self.examples(), self.examples())
        expected = weights_of(trained.learner)
        path = tmp_path / "best.safetensors"
        path.write_bytes(save_weights(expected))
        assert not same(weights_of(learner), expected)
        load_weights(learner, read_weights(path), origin="a file")
        assert same(weights_of(learner), expected)

    def test_starting_from_its_own_weights_changes_nothing(self) -> None:
        learner = self.learner()
        before = {name: value.clone() for name, value in weights_of(learner).items()}
        learner.start_from(before, origin="itself")
        assert same(weights_of(learner), before)

    def test_a_learner_may_use_the_networks_of_another(self) -> None:
        learner = self.learner()
        networks = learner_of(self.identity, CPU, share=learner).networks
        assert all(networks[name] is network for name, network in learner.networks.items())

    def test_it_has_the_layers_that_its_identity_names(self) -> None:
        layers = self.learner().layers()
        assert tuple(layers) == self.identity.compared_layers
        for layer in layers.values():
            assert any(value.ndim == 4 for kernel in layer.kernels for value in kernel.parameters())

    def test_the_global_generator_does_not_matter(self) -> None:
        training = self.trainer()
        before = torch.get_rng_state()
        training.epoch(self.examples(), self.examples())
        assert torch.get_rng_state().equal(before)


def run(command: Command, study: Path, *options: str | Path, code: int = 0) -> str:
    """Runs a study in this process; returns what it said."""
    return command("run", study, "--executor", "in-process", *options, code=code).out


def assert_ray_records_the_same(command: Command, study: Path, folder: Path) -> None:
    """A study records the same bytes in this process and on Ray; `ray` in the folder is its storage there."""
    run(command, study, "--storage", folder / "plain")
    command("run", study, "--executor", "ray", "--storage", folder / "ray", code=0)
    assert recorded(folder / "ray") == recorded(folder / "plain")
