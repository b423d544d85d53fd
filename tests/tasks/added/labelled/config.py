"""Labelled: which class an image has. A task of the tests, for whatever reads labels."""

from __future__ import annotations

from pydantic import Field

from xferlab.metrics.classes import metrics_of_classes
from xferlab.metrics.metric import Metric
from xferlab.section import Float, Int, Section
from xferlab.tasks.config import Loop, Size, Task, TrialIdentity
from xferlab.tasks.config import Training as TaskTraining


class Model(Section):
    """A small network."""

    image_size: Int = Field(16, ge=8, le=1024)
    """Side of the images in pixels."""
    width: Int = Field(4, ge=1, le=512)
    """Channels of its convolutions."""


class Learning(Loop):
    """How a stage learns."""

    lr: Float = Field(1e-2, gt=0)
    """Learning rate."""


class Training(Learning, TaskTraining):
    """The section `training`."""


class Identity(TrialIdentity):
    """The identity of a trial."""

    model: Model
    training: Learning

    @property
    def image_size(self) -> Size:
        """The size at which the network takes images."""
        return self.model.image_size


def metrics(targets: tuple[str, ...]) -> tuple[Metric, ...]:
    """Returns what is reported of classes that exclude each other."""
    return metrics_of_classes(targets, exclusive=True)


TASK = Task(
    name="labelled",
    version=1,
    metrics_version=1,
    metrics=metrics,
    headline="ACCURACY",
    model=Model,
    training=Training,
    identity=Identity,
    targets="classes",
    reads_masks=False,
    learner="xferlab.tasks.labelled.learner:LabelledLearner",
)
