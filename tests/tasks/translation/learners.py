"""Tiny learners of translation, from the same identities that studies give."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tests.training.images import CPU, digests, noisy
from xferlab.tasks.registry import learner_of
from xferlab.tasks.translation.config import Identity
from xferlab.tasks.translation.learner import TranslationLearner
from xferlab.training.examples import ImageExamples
from xferlab.training.sets import CaseSets

SIDE = 32
SEGMENTER = {
    "name": "unet", "in_channels": 1, "out_channels": 1, "init_features": 2, "intensity": "unit",
    "loss": "dice", "smoothing": 1.0,
}  # fmt: skip


def identity(
    *, seed: int = 1, model: Any = None, segmenter: Any = SEGMENTER, labelled: bool = True, **training: Any
) -> Identity:
    """The identity of a trial whose networks have two channels at their first level."""
    small = {"width": 2, "blocks": 1, "discriminator_width": 2, "image_size": SIDE}
    return Identity.model_validate(
        {
            "task": "translation", "version": 1, "selection": "", "seed": seed,
            "others": {"b": "", **({"b.labelled": ""} if labelled else {})},
            "model": {**small, "segmenter": segmenter, **(model or {})},
            "training": {"batch_size": 3, "max_epochs": 2, "patience": 9, "pool": 3, **training},
            "execution": {"device": "cpu", "precision": "float32", "compile": False},
        }
    )  # fmt: skip


def make(**changed: Any) -> TranslationLearner:
    learner = learner_of(identity(**changed), CPU)
    assert isinstance(learner, TranslationLearner)
    return learner


def cases(name: str, count: int, *, masks: bool = True, device: torch.device = CPU) -> ImageExamples:
    """A set of random images, with masks or without."""
    images, targets = noisy(count, SIDE)
    planes = targets[:, None] if masks else np.zeros((count, 0, SIDE, SIDE), np.uint8)
    made = ImageExamples(
        digests(range(count)), images if name == "a" else 255 - images // 2, planes,
        np.full((count, 2), np.nan, np.float32), structures=("structure",) if masks else (),
        rows=np.arange(count), device=device,
    )  # fmt: skip
    made.set_name = name
    return made


def examples(*, labelled: bool = True, masks: bool = True, device: torch.device = CPU) -> CaseSets:
    """Five images of a, six of b, which are less dark, and masks of two of these."""
    sets = {"a": cases("a", 5, masks=masks, device=device), "b": cases("b", 6, masks=False, device=device)}
    return CaseSets({**sets, **({"b.labelled": cases("b.labelled", 2, device=device)} if labelled else {})})
