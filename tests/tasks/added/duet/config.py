"""Duet: how much of an image a segmenter and a second network mark. A task of the tests with every role."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from xferlab.metrics.metric import Metric
from xferlab.section import Float, Int, Section
from xferlab.tasks.config import Finding, Loop, Size, StageView, Task, TrialIdentity
from xferlab.tasks.config import Training as TaskTraining
from xferlab.tasks.roles import Masks as TaskMasks


class Model(Section):
    """Two small networks."""

    image_size: Int = Field(32, ge=16, le=1024)
    """Side of the images in pixels."""
    init_features: Int = Field(4, ge=1, le=64)
    """Width of the segmenter."""


class Learning(Loop):
    """How a stage learns."""

    lr: Float = Field(1e-3, gt=0)
    """Learning rate."""


class Training(Learning, TaskTraining):
    """The section `training`."""


class Masks(TaskMasks):
    """Masks of another stage."""

    keep: Literal["inside", "outside"] = "inside"
    """Which pixels stay."""


class Identity(TrialIdentity):
    """The identity of a trial."""

    model: Model
    training: Learning

    @property
    def image_size(self) -> Size:
        """The size at which the networks take images."""
        return self.model.image_size


ERROR = Metric(
    name="ERROR",
    label="Absolute error of the area",
    better="lower",
    source="-",
    prominence="main",
    definition="|predicted - true| share of marked pixels.",
)


def check(stage: StageView) -> Iterator[Finding]:
    """Yields a segmenter that starts from one of another width."""
    segmenter = stage.origins.get("segmenter")
    if segmenter is not None and segmenter.init_features != stage.network.init_features:
        what = (
            f"init_features is {stage.network.init_features}, and {segmenter.init_features} in its segmenter"
        )
        yield Finding(("stages", stage.name, "starts_from", "segmenter"), what)


TASK = Task(
    name="duet",
    version=1,
    metrics_version=1,
    metrics=lambda targets: (ERROR,),
    headline="ERROR",
    model=Model,
    training=Training,
    identity=Identity,
    networks={"segmenter": "structures", "second": ""},
    masks=Masks,
    check=check,
    learner="xferlab.tasks.duet.learner:DuetLearner",
)
