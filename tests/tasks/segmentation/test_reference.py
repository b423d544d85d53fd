"""Intensities that learn a reference: contract, children, prediction from weights, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.studies import write_study
from tests.tasks.contract import LearnerContract
from tests.tasks.segmentation.learners import make, trainer
from tests.tasks.segmentation.test_contract import tiny
from tests.training.images import CPU, noisy, resized
from xferlab.errors import DonorError, StudyError
from xferlab.networks.state_dicts import check_usable
from xferlab.study.load import load
from xferlab.tasks.registry import learner_of
from xferlab.tasks.segmentation.plain_weights import identity_of_weights
from xferlab.tasks.segmentation.sections import REFERENCED
from xferlab.training.examples import ImageExamples
from xferlab.training.loop import weights_of
from xferlab.trial.training import load_weights

pytestmark = pytest.mark.component

IMAGES, TARGETS = noisy(6, 16)
BRIGHT, DARK = resized(IMAGES // 2 + 100, TARGETS), resized(IMAGES // 4, TARGETS)


class TestMatched(LearnerContract):
    identity = tiny(intensity="matched", model={"in_channels": 3})

    def examples(self) -> ImageExamples:
        return resized(*noisy(5, 16))


class TestAmplitude(TestMatched):
    identity = tiny(intensity="amplitude")


def inputs(learner: Any, examples: ImageExamples) -> torch.Tensor:
    return learner.load(examples, np.arange(len(examples)), None).inputs


@pytest.mark.parametrize("intensity", REFERENCED)
def test_weights_bring_new_images_to_the_training_images(intensity: str) -> None:
    training = trainer(intensity=intensity, max_epochs=1)
    training.fit(BRIGHT, BRIGHT)
    (weights,) = [dict(weights_of(training.learner))]
    check_usable(weights, origin="weights")
    options: dict[str, Any] = {"image_size": 16, "intensity": intensity}
    bare = learner_of(identity_of_weights(weights, origin="w", options=options), CPU)
    load_weights(bare, weights, origin="w")
    assert inputs(bare, DARK).equal(inputs(training.learner, DARK))
    assert float(inputs(bare, DARK).mean()) == pytest.approx(float(inputs(bare, BRIGHT).mean()), abs=0.01)
    without = learner_of(
        identity_of_weights(weights, origin="w", options=options | {"intensity": "unit"}), CPU
    )
    assert float(inputs(without, DARK).mean()) < 0.15
    with pytest.raises(DonorError, match=r"w: these weights do not fit .*unexpected: reference\."):
        load_weights(without, weights, origin="w")


@pytest.mark.parametrize("intensity", REFERENCED)
def test_a_child_takes_the_reference_over_and_learns_its_own(intensity: str) -> None:
    parent, child = make(intensity=intensity), make(intensity=intensity, adapt={"control": "matched"})
    parent.prepare(BRIGHT)
    child.start_from(weights_of(parent), origin="parent")
    assert inputs(child, DARK).equal(inputs(parent, DARK))
    child.prepare(DARK)
    assert float(inputs(child, BRIGHT).mean()) < 0.2 < float(inputs(parent, BRIGHT).mean())
    for other in (make(), make(intensity=REFERENCED[intensity == REFERENCED[0]])):
        other.start_from(weights_of(parent), origin="parent")


@pytest.mark.parametrize("intensity", REFERENCED)
def test_images_of_many_sizes_are_refused_by_line(intensity: str, tmp_path: Path) -> None:
    path = write_study(tmp_path, model={"image_size": "native"}, training={"intensity": intensity})
    with pytest.raises(
        StudyError, match=rf"study.yaml:\d+: stage '\w+' has intensity: {intensity}, which needs"
    ):
        load(path)
