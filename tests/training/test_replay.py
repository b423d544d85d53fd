"""Steps that are replayed train as steps that are not, bit for bit, and none waits for a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from tests.tasks.classification import learners as classification
from tests.tasks.classification.test_contract import DROPOUT, INSIDE
from tests.tasks.segmentation import learners as segmentation
from tests.training.images import noisy, resized
from tests.training.learners import Cases, Small, assert_resumes, outcome, same, trainer
from tests.training.tape import Tapes
from xferlab.errors import NonFiniteLossError
from xferlab.training.learner import Learner
from xferlab.training.replay import STEPS_BEFORE, Recordings

IMAGES = resized(*noisy(14, 16))
LABELLED = classification.examples(6, masks=True)
PATCHES = {"patches": {"size_px": 32, "number": 2, "validation": 1}}


def unet(**changed: Any) -> Learner[Any, Any]:
    return segmentation.make(batch_size=4, lr=0.02, **changed)


def vgg(**changed: Any) -> Learner[Any, Any]:
    return classification.make(masks=INSIDE, **changed)


def fitted(learner: Learner[Any, Any], cases: Any, *, epochs: int) -> Mapping[str, Any]:
    training = trainer(learner, max_epochs=epochs)
    return outcome(training, training.fit(cases, cases))


def taped(learner: Any) -> tuple[Any, Tapes]:
    """A learner whose steps are recorded on tapes."""
    tapes = Tapes()
    learner._recordings = Recordings(lambda: tapes)
    return learner, tapes


@pytest.mark.parametrize(
    ("make", "cases", "recordings"),
    [
        # Of 14 images two batches have four and one has six: those two more would be too few by themselves.
        (lambda: unet(rotation={"degrees": 20, "probability": 0.5}), IMAGES, 2),
        (lambda: unet(loss="dice_cross_entropy", precision="bfloat16"), IMAGES, 2),
        # Thawed after the third epoch, and recorded anew; so for another learning rate.
        (lambda: unet(adapt={"freeze": {"part": "encoder", "unfreeze_after": 3}}), IMAGES, 4),
        (lambda: unet(milestones={"epochs": [3], "factor": 0.1}, plateau=None), IMAGES, 4),
        (lambda: vgg(sampling="balanced"), LABELLED, 1),
        (lambda: vgg(model={**PATCHES, "head": DROPOUT}), LABELLED, 1),
        (lambda: Small(batch_size=5), Cases(14), 0),  # its batches are no tuples
    ],
)
def test_a_training_is_the_same_recorded_or_not(
    make: Callable[[], Learner[Any, Any]], cases: Any, recordings: int
) -> None:
    learner, tapes = taped(make())
    assert same(fitted(learner, cases, epochs=6), fitted(make(), cases, epochs=6))
    assert (tapes.recorded, tapes.waits) == (recordings, 0)
    assert recordings == 0 or tapes.replayed >= 6


def test_a_recorded_training_resumes_after_any_batch() -> None:
    assert_resumes(lambda: trainer(taped(vgg())[0], max_epochs=2), LABELLED, LABELLED)


def test_no_replayed_step_follows_a_loss_that_is_not_finite() -> None:
    learner, tapes = taped(unet())
    learner.begin_epoch(1)
    batch = learner.load(IMAGES, np.arange(4), None)
    for _ in range(STEPS_BEFORE + 1):
        learner.train_step(batch)
    before = {name: value.clone() for name, value in learner.network.named_parameters()}
    learner.train_step(batch._replace(inputs=batch.inputs * torch.nan))
    learner.train_step(batch)
    assert tapes.replayed == 3
    assert same(before, dict(learner.network.named_parameters()))
    with pytest.raises(NonFiniteLossError, match="the training loss became nan in epoch 1"):
        learner.check_steps("in epoch 1")


def test_what_a_step_reads_on_the_host_is_recorded_with_it() -> None:
    place, batch, factor = torch.zeros(()), (torch.ones(()),), 1.0
    recordings = Recordings(Tapes)

    def step(given: tuple[torch.Tensor]) -> torch.Tensor:
        place.add_(given[0], alpha=factor)
        return place.clone()

    def taken(host: str) -> float:
        return float(recordings.take(step, batch, host=host))

    assert [taken("one") for _ in range(STEPS_BEFORE + 1)] == [1.0, 2.0, 3.0]
    factor = 10.0
    assert (taken("one"), taken("ten")) == (4.0, 14.0)
