"""Labelled: which class an image has. A task of the tests, for whatever reads labels."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field
from xferlab.tasks.images import sections

from xferlab.metrics.metric import Metric
from xferlab.section import Int
from xferlab.tasks.config import Task


class Model(sections.Model):
    """A small network."""

    width: Int = Field(4, ge=1, le=512)
    """Channels of its convolutions."""


class Identity(sections.Identity):
    """The identity of a trial."""

    model: Model


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
    return (CORRECT, *(metric for name in targets for metric in _of(name)))


def _of(name: str) -> tuple[Metric, ...]:
    auc = Metric(
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
    f1 = replace(
        auc,
        name=f"F1_{name}",
        label=f"F1, {name}",
        source="van Rijsbergen 1979",
        definition=f"2 TP / (2 TP + FP + FN) for {name} against the rest.",
        undefined="NaN where no image is of the class and none is called so.",
        computed_by="f1",
        made_of=(f"IS_{name}", f"CALLED_{name}"),
    )
    return auc, f1


TASK = Task(
    name="labelled",
    version=1,
    metrics_version=1,
    metrics=metrics,
    headline="CORRECT",
    model=Model,
    training=sections.Training,
    identity=Identity,
    targets="classes",
    reads_masks=False,
    learner="xferlab.tasks.labelled.learner:LabelledLearner",
)
