"""Tiny learners of classification, from the same identities that studies give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tests.training.images import CPU, noisy, resized
from xferlab.tasks.classification.config import Identity
from xferlab.tasks.classification.learner import ClassificationLearner
from xferlab.tasks.registry import learner_of
from xferlab.training.examples import ImageExamples, Pixels

CLASSES = ("well", "sick", "worse")
SIDE = 34


def identity(
    *,
    seed: int = 1,
    masks: Any = None,
    model: Any = None,
    adapt: Any = None,
    classes: int = 3,
    **training: Any,
) -> Identity:
    """The identity of a trial whose network has eight channels on every level but the last."""
    small: Mapping[str, Any] = {"name": "vgg16", "width": 0.03, "image_size": SIDE}
    return Identity.model_validate(
        {
            "task": "classification", "version": 1, "selection": "", "seed": seed, "num_classes": classes,
            "model": {**small, **(model or {})},
            "training": {"batch_size": 2, "max_epochs": 2, "patience": 9, "lr": 0.01, **training},
            "execution": {"device": "cpu", "precision": "float32", "compile": False},
            "masks": masks, "adapt": adapt,
        }
    )  # fmt: skip


def make(**changed: Any) -> ClassificationLearner:
    learner = learner_of(identity(**changed), CPU)
    assert isinstance(learner, ClassificationLearner)
    return learner


class Planes:
    """Masks as another stage would predict them: the left and the middle third of an image."""

    structures = ("left", "middle")

    def of(self, row: int) -> Pixels:
        planes = np.zeros((2, 12, 12), np.uint8)
        planes[0, :, :4], planes[1, :, 4:8] = 255, 255
        return planes


def examples(
    number: int = 6, *, labels: Sequence[int] = (0, 1, 2, 1, 0, 2), classes: Sequence[str] = CLASSES,
    masks: bool = False, side: int = SIDE, device: torch.device = CPU,
) -> ImageExamples:  # fmt: skip
    """Noise with labels, and masks of two thirds of each image if they are asked for."""
    cases = resized(*noisy(number, side), device=device)
    cases.label(labels[:number], classes)
    cases.masks = Planes() if masks else None
    return cases
