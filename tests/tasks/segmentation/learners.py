"""Tiny learners of segmentation, from the same identities that studies give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.training import learners
from tests.training.images import CPU
from xferlab.tasks.config import Execution
from xferlab.tasks.registry import learner_of
from xferlab.tasks.segmentation.config import Identity
from xferlab.tasks.segmentation.learner import SegmentationLearner
from xferlab.tasks.segmentation.sections import Adapt, Learning, Network
from xferlab.training.loop import Trainer


def identity(
    *, seed: int = 1, precision: Any = "float32", adapt: Any = None, model: Any = None, **training: Any
) -> Identity:
    """The identity of a trial whose network has two features at its first level."""
    small: Mapping[str, Any] = {"in_channels": 1, "init_features": 2, "image_size": 16}
    return Identity(
        task="segmentation",
        version=1,
        model=Network(**{**small, **(model or {})}),
        training=Learning(**training),
        adapt=None if adapt is None else Adapt(**adapt),
        execution=Execution(device="cpu", precision=precision, compile=False),
        selection="",
        seed=seed,
    )


def make(**changed: Any) -> SegmentationLearner:
    learner = learner_of(identity(**changed), CPU)
    assert isinstance(learner, SegmentationLearner)
    return learner


def trainer(*, max_epochs: int = 3, **changed: Any) -> Trainer[Any, Any]:
    return learners.trainer(make(**changed), max_epochs=max_epochs)
