"""Training steps on a CUDA device: recorded ones are those that are not, and none waits for the device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from tests.tasks.classification import learners as classification
from tests.tasks.classification.test_contract import DROPOUT
from tests.tasks.segmentation import learners as segmentation
from tests.training.images import STRONG, noisy, resized
from tests.training.learners import outcome, same, trainer
from xferlab.tasks.config import TrialIdentity
from xferlab.tasks.registry import learner_of
from xferlab.training.examples import ImageExamples
from xferlab.training.learner import AugmentationSeed, Learner
from xferlab.trial.environment import limit_gpu_memory, prepare
from xferlab.trial.failure import Kind, described, on_device

pytestmark = pytest.mark.gpu

SIDE = 48
TURNED = {"degrees": 20.0, "probability": 0.5}
MAKERS = [
    partial(segmentation.identity, rotation=TURNED, augmentation=vars(STRONG)),
    partial(
        segmentation.identity,
        loss="cross_entropy",
        adapt={"freeze": {"part": "encoder", "unfreeze_after": 2}},
    ),
    partial(
        classification.identity, rotation=TURNED, model={"head": DROPOUT, "image_size": SIDE}, plateau=None
    ),
    # Matrix products, whose library has memory of its own, recorded anew for another learning rate.
    partial(
        classification.identity,
        model={"image_size": SIDE},
        milestones={"epochs": [2, 3], "factor": 0.1},
        plateau=None,
    ),
]


def on_gpu(identity: TrialIdentity, **execution: Any) -> tuple[Learner[Any, Any], ImageExamples]:
    """The learner of an identity, and eleven images: batches of four, four and three."""
    how = identity.execution.model_copy(update={"device": "cuda", **execution})
    device = prepare(how)
    images = resized(*noisy(11, SIDE), device=device)
    images.label([number % 3 for number in range(11)], classification.CLASSES)
    return learner_of(identity.model_copy(update={"execution": how}), device), images


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("make", MAKERS)
def test_recorded_steps_are_those_that_are_not(make: Callable[..., TrialIdentity], precision: str) -> None:
    found = []
    for graph in (None, True):
        identity = make(batch_size=4, lr=0.01)
        learner, images = on_gpu(identity, precision=precision, deterministic=True, cuda_graph=graph)
        training = trainer(learner, max_epochs=5)
        found.append(outcome(training, training.fit(images, images)))
    assert same(*found)


@pytest.mark.parametrize("cuda_graph", [None, True])
@pytest.mark.parametrize("make", MAKERS)
def test_no_step_waits_for_the_device(make: Callable[..., TrialIdentity], cuda_graph: bool | None) -> None:
    learner, images = on_gpu(
        make(batch_size=4), precision="bfloat16", deterministic=False, cuda_graph=cuda_graph
    )
    steps = [(epoch, rows) for epoch in range(1, 9) for rows in learner.batches(images, epoch)]
    try:
        for epoch, rows in steps:
            if epoch == 8:  # all is made and recorded
                torch.cuda.set_sync_debug_mode("error")
            learner.begin_epoch(epoch)
            learner.train_step(learner.load(images, rows, AugmentationSeed(1, epoch)))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_share_of_the_memory_is_a_limit_and_what_exceeds_it_is_known() -> None:
    free, _ = torch.cuda.mem_get_info()
    limit_gpu_memory(0.01)
    try:
        with pytest.raises(torch.OutOfMemoryError) as caught:
            torch.empty(free // 2, dtype=torch.uint8, device="cuda")
    finally:
        limit_gpu_memory(1.0)
    failure = described(caught.value, epoch=0)
    assert (failure["kind"], on_device(failure)) == (Kind.MEMORY, True)
