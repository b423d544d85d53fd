"""Labelled: which class an image has. A task of the tests, for whatever reads labels."""

from __future__ import annotations

from pydantic import Field
from xferlab.tasks.images import sections

from xferlab.metrics.classes import metrics_of_classes
from xferlab.metrics.metric import Metric
from xferlab.section import Int
from xferlab.tasks.task import Task


class Model(sections.Model):
    """A small network."""

    width: Int = Field(4, ge=1, le=512)
    """Channels of its convolutions."""


class Identity(sections.Identity):
    """The identity of a trial."""

    model: Model


def metrics(targets: tuple[str, ...]) -> tuple[Metric, ...]:
    """Returns what is reported of classes that exclude each other."""
    return metrics_of_classes(targets)


TASK = Task(
    name="labelled",
    version=1,
    metrics_version=1,
    metrics=metrics,
    headline="ACCURACY",
    model=Model,
    training=sections.Training,
    identity=Identity,
    targets="classes",
    reads_masks=False,
    learner="xferlab.tasks.labelled.learner:LabelledLearner",
)
