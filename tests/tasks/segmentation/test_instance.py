"""`unet_instance` in the task: the contract, frozen parts, bare weights, and images that are too small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.tasks.contract import LearnerContract
from tests.tasks.segmentation.learners import identity, make
from tests.tasks.segmentation.test_contract import tiny
from tests.training.images import CPU, images_of, native, noisy, resized
from tests.training.learners import copied
from xferlab.errors import UsageError
from xferlab.tasks.registry import learner_of
from xferlab.tasks.segmentation.plain_weights import identity_of_weights
from xferlab.training.examples import ImageExamples, NativeExamples

pytestmark = pytest.mark.component

INSTANCE = {"name": "unet_instance", "image_size": 32}


class TestResized(LearnerContract):
    identity = tiny(
        precision="bfloat16",
        model={**INSTANCE, "translator": {"depth": 1, "width": 3}},
        adapt={"translator": {"depth": 1, "width": 3}, "freeze": {"part": "encoder", "unfreeze_after": 1}},
    )

    def examples(self) -> ImageExamples:
        return resized(*noisy(5, 32))


class TestTiled(LearnerContract):
    identity = tiny(model={**INSTANCE, "image_size": "native", "tiles": {"size": 32}})

    def examples(self) -> NativeExamples:
        return native(images_of([(40, 33), (34, 50), (64, 40), (48, 48), (35, 36)]))


def test_a_single_small_image_can_be_learnt() -> None:
    """At 32 px, of four pixels at the bottleneck."""
    assert not identity(model={**INSTANCE, "image_size": "native"}, batch_size=1).needs_sizes
    learner = make(model=INSTANCE, batch_size=1)
    before = copied(learner.network)
    learner.begin_epoch(1)
    learner.train_step(learner.load(resized(*noisy(1, 32)), np.array([0]), None))
    learner.check_steps("")
    name = "bottleneck.bottleneckconv1.weight"
    assert not before[name].equal(learner.network.state_dict()[name])


@pytest.mark.parametrize("size", [{"image_size": 16}, {"image_size": "native", "tiles": {"size": 16}}])
def test_one_pixel_at_the_bottleneck_is_refused(size: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"size 16 leaves unet_instance one pixel .* to 32 or more"):
        identity(model=INSTANCE | size)


def test_bare_weights_tell_their_architecture() -> None:
    weights = make(model=INSTANCE).network.state_dict()
    options: dict[str, Any] = {"image_size": 48, "intensity": "zscore"}
    told = identity_of_weights(weights, origin="x", options=options)
    assert (told.model.name, told.model.init_features) == ("unet_instance", 2)
    learner_of(told, CPU).start_from(weights, origin="x")
    with pytest.raises(UsageError, match="--image-size: found 16; accepted: multiples of 16, such as 32"):
        identity_of_weights(weights, origin="x", options=options | {"image_size": 16})
