"""Classification of whole images: the identity of its trials, and what the engine must know of it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from xferlab.metrics.classes import LOG_LOSS, SENSITIVE, YOUDEN, metrics_of_classes
from xferlab.metrics.markers import MARKERS
from xferlab.metrics.metric import Metric
from xferlab.metrics.score import Score
from xferlab.tasks.classification.checks import check, check_single
from xferlab.tasks.classification.sections import LAYERS, Adapt, Learning, Masks, Model, Training
from xferlab.tasks.config import Size, TrialIdentity
from xferlab.tasks.task import Task

HEAT_INSIDE = "HEAT_INSIDE"
_HEAT = Metric(
    name=HEAT_INSIDE,
    label="Heat inside",
    better=None,
    source="Selvaraju et al. 2017 (Grad-CAM); the share is ours",
    definition=(
        "Share of the heat map of the class that the image is called which lies inside of the masks that the "
        "stage takes."
    ),
    undefined="NaN without masks, and where nothing speaks for the class.",
)
COVERED = "COVERED"
_COVERED = Metric(
    name=COVERED,
    label="Covered by patches",
    better=None,
    source="-",
    definition="Share of the pixels of what masks leave that some patch covers.",
    undefined="NaN without patches, and where masks leave nothing.",
)


NETWORK_VERSIONS = {"efficientnet_lite0": 2}
"""Of a network, raised when the same configuration gives other weights with it, and the same with all others;
those of the first version are not listed."""


class Identity(TrialIdentity):
    """The identity of a trial of classification."""

    judged_by = ("loss", "class_weights", "score", "batch_size")
    layers = LAYERS
    model: Model
    training: Learning
    adapt: Adapt | None = None
    network_version: int | None = Field(default_factory=lambda given: _network_version(given))
    """That of `NETWORK_VERSIONS`; null for a network that is not listed."""

    @property
    def score(self) -> Score:
        """By which value of the validation cases epochs are judged."""
        name = self.training.score
        return Score(name, "lower" if name == "loss" else "higher")

    @property
    def image_size(self) -> Size:
        """The size at which the network takes images."""
        return self.model.image_size

    @property
    def is_exclusive(self) -> bool:
        """Whether an image is of one class only."""
        return self.model.outputs == "exclusive"

    @property
    def has_several(self) -> bool:
        """Whether an image may be of several classes or of none."""
        return not self.is_exclusive

    @property
    def calls_by(self) -> str | None:
        """Patches vote for the class of an image."""
        return "votes" if self.model.patches else None

    @property
    def preprocessing(self) -> str:
        """How grey levels are normalised."""
        return ", ".join(filter(None, (self.model.intensity, self.model.standardise)))


def _network_version(given: dict[str, Any]) -> int | None:
    """Takes the fields that were read before; there is no model where it was refused."""
    model = given.get("model")
    return NETWORK_VERSIONS.get(model.name) if isinstance(model, Model) else None


def metrics(classes: tuple[str, ...]) -> tuple[Metric, ...]:
    """Returns what is reported of classes."""
    return (*metrics_of_classes(classes, thresholds=(YOUDEN, SENSITIVE)), _HEAT, _COVERED, *MARKERS)


TASK = Task(
    name="classification",
    version=3,
    metrics_version=2,
    metrics=metrics,
    headline="ACCURACY",
    ranked_by=LOG_LOSS.name,
    panels="xferlab.tasks.classification.heat:panels",
    panels_show="The image, and over it where the network looks for the class that it finds most probable.",
    model=Model,
    training=Training,
    identity=Identity,
    learner="xferlab.tasks.classification.learner:ClassificationLearner",
    targets="classes",
    masks=Masks,
    adapt=Adapt,
    new_head=lambda adapt: adapt.head == "new",
    check=check,
    check_single=check_single,
    files=lambda classes: {"heat": "_heat.png"},
    ensemble_files={},
    reads_masks=False,
    report="xferlab.tasks.classification.report",
)
