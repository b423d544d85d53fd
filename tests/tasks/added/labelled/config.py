"""Labelled: which class an image has. A task of the tests, for whatever reads labels."""

from __future__ import annotations

from pydantic import Field

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


CORRECT = Metric(
    name="CORRECT",
    label="Accuracy",
    better="higher",
    source="-",
    prominence="main",
    definition="1 where the most probable class is the true one, 0 elsewhere.",
)


def metrics(targets: tuple[str, ...]) -> tuple[Metric, ...]:
    """Returns accuracy, and for each class the area under the ROC curve and F1, of it against the rest."""
    return (CORRECT, *(metric for name in targets for metric in (_auc(name), _f1(name))))


def _auc(name: str) -> Metric:
    return Metric(
        name=f"AUC_{name}",
        label=f"AUC, {name}",
        better="higher",
        source="Bradley 1997",
        prominence="headline",
        definition=f"Probability that an image of {name} gets a higher probability of it than another.",
        undefined="NaN without images of both kinds.",
        computed_by="roc_auc",
        made_of=(f"IS_{name}", f"P_{name}"),
        of=name,
    )


def _f1(name: str) -> Metric:
    return Metric(
        name=f"F1_{name}",
        label=f"F1, {name}",
        better="higher",
        source="van Rijsbergen 1979",
        prominence="headline",
        definition=f"2 TP / (2 TP + FP + FN) for {name} against the rest.",
        undefined="NaN where no image is of the class and none is called so.",
        computed_by="f1",
        made_of=(f"IS_{name}", f"CALLED_{name}"),
        of=name,
    )


TASK = Task(
    name="labelled",
    version=1,
    metrics_version=1,
    metrics=metrics,
    headline="CORRECT",
    model=Model,
    training=Training,
    identity=Identity,
    targets="classes",
    reads_masks=False,
    learner="xferlab.tasks.labelled.learner:LabelledLearner",
)
