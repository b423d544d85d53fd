"""Masked: which class an image has, as `labelled`, seen through the masks that another stage predicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from xferlab.tasks.labelled.config import Identity, Model, Training, metrics

from xferlab.tasks import roles
from xferlab.tasks.config import Finding, StageView, Task


class Masks(roles.Masks):
    """The section `masks`."""

    keep: Literal["inside", "outside"] = "inside"
    """What of the images is left."""


def check(stage: StageView) -> Iterator[Finding]:
    """Yields that a stage takes no masks."""
    if stage.masks is None:
        path = ("stages", stage.name, "masks")
        yield Finding(
            path, f"stage {stage.name!r} sees images through masks only; set masks: {{from: STAGE}}"
        )


TASK = Task(
    name="masked",
    version=1,
    metrics_version=1,
    metrics=metrics,
    headline="ACCURACY",
    model=Model,
    training=Training,
    identity=Identity,
    targets="classes",
    masks=Masks,
    check=check,
    reads_masks=False,
    learner="xferlab.tasks.masked.learner:MaskedLearner",
)
