"""Masked: which class an image has, as `labelled`, seen through the masks that another stage predicts."""

from __future__ import annotations

from typing import Literal

from xferlab.tasks.labelled.config import Identity, Model, Training, metrics

from xferlab.tasks import roles
from xferlab.tasks.config import Task


class Masks(roles.Masks):
    """The section `masks`."""

    keep: Literal["inside", "outside"] = "inside"
    """What of the images is left."""


TASK = Task(
    name="masked",
    version=1,
    metrics_version=1,
    metrics=metrics,
    headline="CORRECT",
    model=Model,
    training=Training,
    identity=Identity,
    targets="classes",
    masks=Masks,
    reads_masks=False,
    learner="xferlab.tasks.masked.learner:MaskedLearner",
)
