"""Duet: how much of an image a segmenter and a second network mark. A task of the tests with every role."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field
from xferlab.tasks.images import sections

from xferlab.metrics.metric import Metric
from xferlab.section import Int
from xferlab.tasks.task import Finding, StageView, Task


class Model(sections.Model):
    """Two small networks."""

    init_features: Int = Field(4, ge=1, le=64)
    """Width of the segmenter."""


class Identity(sections.Identity):
    """The identity of a trial."""

    model: Model


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
    training=sections.Training,
    identity=Identity,
    networks={"segmenter": "structures", "second": ""},
    masks=sections.Masks,
    check=check,
    learner="xferlab.tasks.duet.learner:DuetLearner",
)
