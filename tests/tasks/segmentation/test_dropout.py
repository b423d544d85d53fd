"""`unet_dropout` in the task: the contract in every view, single images, several structures, bare weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.tasks.contract import LearnerContract
from tests.tasks.segmentation.learners import identity, make
from tests.tasks.segmentation.test_contract import SIZES, tiny
from tests.training.images import CPU, images_of, native, noisy, resized
from tests.training.learners import assert_resumes, copied
from xferlab.networks.dropout import Dropout
from xferlab.tasks.registry import learner_of
from xferlab.tasks.segmentation.plain_weights import identity_of_weights
from xferlab.training.examples import ImageExamples, NativeExamples
from xferlab.trial.training import trainer_of

pytestmark = pytest.mark.component

DROPOUT = {"name": "unet_dropout"}


class TestResized(LearnerContract):
    identity = tiny(precision="bfloat16", model={**DROPOUT, "in_channels": 3})

    def examples(self) -> ImageExamples:
        return resized(*noisy(5, 16))


class TestNative(LearnerContract):
    identity = tiny(model={**DROPOUT, "image_size": "native"})

    def examples(self) -> NativeExamples:
        return native(images_of(SIZES))


class TestTiled(TestNative):
    identity = tiny(model={**DROPOUT, "image_size": "native", "tiles": {"size": 32}})


@pytest.mark.parametrize(
    "adapt",
    [
        {"freeze": {"part": "encoder", "unfreeze_after": {"bottleneck": 1}}},
        {"translator": {"depth": 1, "width": 3}, "freeze": {"part": "donor", "unfreeze_after": 1}},
    ],
    ids=["encoder", "donor with a translator"],
)
def test_resumes_bit_for_bit_where_parts_rest_and_thaw(adapt: dict[str, Any]) -> None:
    model = DROPOUT | ({"translator": adapt["translator"]} if "translator" in adapt else {})
    trial = identity(batch_size=2, max_epochs=3, lr=0.01, model=model, adapt=adapt)
    examples = resized(*noisy(5, 16))
    assert_resumes(lambda: trainer_of(trial, learner_of(trial, CPU)), examples, examples)


def test_a_single_image_of_one_pixel_at_the_bottleneck_can_be_learnt() -> None:
    """Which batch norm cannot: `unet` is refused in the plan."""
    learner = make(model=DROPOUT, batch_size=1)
    before = copied(learner.network)
    learner.begin_epoch(1)
    learner.train_step(learner.load(resized(*noisy(1, 16)), np.array([0]), None))
    learner.check_steps("")
    assert not before["bottleneck.bottleneckconv1.weight"].equal(
        learner.network.state_dict()["bottleneck.bottleneckconv1.weight"]
    )


@pytest.mark.parametrize(("name", "finds"), [("unet", 1), ("unet_dropout", 0)])
def test_only_batch_norm_asks_for_larger_images(name: str, finds: int) -> None:
    trial = identity(model={"name": name, "image_size": "native"}, batch_size=1)
    assert trial.needs_sizes is bool(finds)
    assert len(list(trial.check_sizes({"a": (16, 16)}, ["a"]))) == finds


def test_bare_weights_tell_their_architecture() -> None:
    options = {"image_size": 16, "intensity": "zscore"}
    for name in ("unet", "unet_dropout"):
        weights = make(model={"name": name, "init_features": 4}).network.state_dict()
        told = identity_of_weights(weights, origin="x", options=options)
        assert (told.model.name, told.model.init_features) == (name, 4)
        learner_of(told, CPU).start_from(weights, origin="x")


def test_each_step_draws_its_own_dropout_and_predictions_draw_none() -> None:
    learner, examples = make(model=DROPOUT, lr=1e-30), resized(*noisy(4, 16))
    losses = []
    for epoch, batch in ((1, 0), (1, 1), (2, 0), (1, 0)):
        learner.begin_epoch(epoch, batch)
        losses.append(float(learner.train_step(learner.load(examples, np.arange(4), None))["loss"]))
    assert len(set(losses[:3])) == 3
    assert losses[3] == losses[0]
    assert any(isinstance(part, Dropout) for part in learner.network.modules())
    first, second = (learner.predict(learner.load(examples, np.arange(4), None)) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_several_structures_and_a_fold() -> None:
    model = {**DROPOUT, "structures": 2, "outputs": "exclusive"}
    parent = make(model={**DROPOUT, "in_channels": 3})
    child = make(model=model, adapt={"fold": "luminance", "head": "new"}, seed=2)
    child.start_from(parent.network.state_dict(), origin="x")
    assert child.network.conv.weight.shape[0] == 3
    assert child.network.encoder2.enc2conv1.weight.equal(parent.network.encoder2.enc2conv1.weight)
    assert child.network(torch.zeros(1, 1, 16, 16)).shape == (1, 3, 16, 16)
