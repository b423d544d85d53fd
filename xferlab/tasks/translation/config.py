"""Translation: the identity of its trials, and what the engine must know of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from xferlab.metrics.measuring import METRICS_VERSION
from xferlab.metrics.measuring import metrics_of as metrics_of_structures
from xferlab.metrics.metric import Metric
from xferlab.metrics.score import Score
from xferlab.tasks.config import TrialIdentity
from xferlab.tasks.task import Finding, Origin, Path, StageView, Task
from xferlab.tasks.translation.sections import SIZES, Learning, Model, Network, Training, segmenter_of

SETS = ("a", "b")
"""The domains: what is learnt of the first is carried over to the second."""
SEGMENTER = "segmenter"
LABELLED = "b.labelled"
OLIVEIRA = "oliveira2018"


class Identity(TrialIdentity):
    """The identity of a trial of translation."""

    judged_by = ("weights", "score", "batch_size")
    unused: ClassVar[Mapping[str, Any]] = {"compile": False, "cuda_graph": None, "validation": None}
    model: Network
    training: Learning

    @property
    def score(self) -> Score | None:
        """By which value epochs are judged; None where no label of the second domain may be looked at."""
        if LABELLED not in (self.others or {}):
            return None
        return Score("jaccard", "higher") if self.training.score else Score("loss", "lower")

    @property
    def image_size(self) -> int:
        """The size at which the networks take images."""
        return self.model.image_size

    @property
    def has_threshold(self) -> bool:
        """Whether each structure is where its own output is above a threshold, whatever the others are."""
        return self.model.segmenter is not None and not self.model.segmenter.shares_softmax

    @property
    def exclusive_targets(self) -> bool:
        """Whether no pixel of a case that it trains on may belong to two structures."""
        own = self.model.segmenter
        return own is not None and own.shares_softmax and not own.first_counts

    @property
    def preprocessing(self) -> str:
        """What is done to grey levels before the segmenter sees them."""
        return self.model.segmenter.intensity if self.model.segmenter else ""


CYCLE = Metric(
    name="CYCLE",
    label="Change of an image by translation there and back",
    better="lower",
    source="Zhu et al. 2017",
    prominence="further",
    definition="Mean absolute difference of grey levels, as shares of the range.",
)
DICE_RECOVERED = Metric(
    name="DICE_RECOVERED",
    label="Dice after translation there and back",
    better="higher",
    source=OLIVEIRA,
    prominence="further",
    definition="Of the segmenter's output for an image of domain a that was translated into b and back.",
)
DICE_UNTRANSLATED = Metric(
    name="DICE_UNTRANSLATED",
    label="Dice without translation",
    better="higher",
    source=OLIVEIRA,
    prominence="further",
    definition="Of the segmenter's output for an image of domain b as it is.",
)


def metrics_of(structures: tuple[str, ...]) -> tuple[Metric, ...]:
    """Returns the metrics of structures, and those of the translation."""
    return (*metrics_of_structures(structures), DICE_RECOVERED, DICE_UNTRANSLATED, CYCLE)


def network(
    model: Model, adaptations: Sequence[None], structures: Sequence[str], origins: Mapping[str, Origin]
) -> Network:
    """Returns the networks of a stage: those that it names, and the segmenter that it starts from."""
    given = origins.get(SEGMENTER)
    segmenter = segmenter_of(given.network, given.training) if given else None
    return Network(**{**dict(model), "segmenter": segmenter})


_OF_SEGMENTERS = {"segmenter_lr", "segmenter_weight_decay", "score"}
"""Fields of a training that are read where there is a segmenter."""
_LACKING = {
    "cyclegan": {"image", "content", "style"},
    "munit_small": {"identity"},
    "munit": {"identity"},
}
"""Losses that each pair of networks has not."""


def check(stage: StageView) -> Iterator[Finding]:
    """Yields networks that do not fit each other, and segmenters that cannot be part of a translation."""
    for (section, path), channels in stage.channels.items():
        if channels != 1:
            yield Finding(path, f"section {section!r} has {channels} channels; translation takes grey images")
    if stage.network.segmenter is None:
        for field in sorted(_OF_SEGMENTERS & stage.training.model_fields_set):
            what = f"stage {stage.name!r} has no segmenter, and {field} is about one; leave it out"
            yield Finding(("stages", stage.name, "training", field), what)
    for loss in sorted(_LACKING[stage.network.name] & stage.training.weights.model_fields_set):
        what = f"stage {stage.name!r} has weights.{loss}, and {stage.network.name} no such loss; leave it out"
        yield Finding(("stages", stage.name, "training", "weights", loss), what)
    for name, given in stage.origins.items():
        if name == SEGMENTER and stage.network.segmenter is None:
            what = f"the segmenter of stage {stage.name!r} must be a stage of this study that segments"
            yield Finding(("stages", stage.name, "starts_from", name), what)
        elif name == SEGMENTER:
            yield from _check_segmenter(stage, given)
        elif isinstance(given, Network):
            yield from _check_translation(stage, name, given)
    if stage.training.batch_size == 1:
        path = stage.written("batch_size")
        yield from check_single(stage, path, "batch_size is 1", "set training.batch_size to 2 or more")


def check_single(stage: StageView, path: Path, why: str, remedy: str) -> Iterator[Finding]:
    """Yields a finding if the segmenter would train a bottleneck of one pixel on a single image.

    Args:
        stage: The stage.
        path: What makes the images single.
        why: How it does.
        remedy: What to do about it; larger images are another way.
    """
    segmenter, size = stage.origins.get(SEGMENTER), stage.network.image_size
    if stage.network.segmenter is None or segmenter is None:
        return
    if segmenter.normalises_bottleneck and size == segmenter.size_multiple:
        yield Finding(
            path,
            f"the segmenter of stage {stage.name!r} would train on a single image at a time ({why}), and at "
            f"{size} px its bottleneck is one pixel: batch norm needs two values of each channel; {remedy}, "
            f"or set model.image_size of both stages to {2 * size} or more",
            related=(("stages", stage.name, "model"), ("stages", stage.name, "starts_from", SEGMENTER)),
        )


def _check_translation(stage: StageView, name: str, given: Network) -> Iterator[Finding]:
    path: Path = ("stages", stage.name, "starts_from", *([name] if name else []))
    own, its = ((network.name, *network.sizes) for network in (stage.network, given))
    for field, now, before in zip(("name", *SIZES[given.name]), own, its, strict=True):
        if now != before:
            what = (
                f"stage {stage.name!r} has model.{field} {now}, and {before} in the translation that it "
                "starts from; give both the same"
            )
            yield Finding(("stages", stage.name, "model"), what, related=(path,))
    if given.segmenter is not None:
        what = f"stage {stage.name!r} starts from a stage with a segmenter; name one that only translates"
        yield Finding(path, what)


def _check_segmenter(stage: StageView, segmenter: Any) -> Iterator[Finding]:
    path = ("stages", stage.name, "starts_from", SEGMENTER)
    if segmenter.image_size != stage.network.image_size:
        what = (
            f"stage {stage.name!r} translates images of {stage.network.image_size} px, and its segmenter "
            f"takes {segmenter.image_size}; give both the same image_size"
        )
        yield Finding(("stages", stage.name, "model"), what, related=(path,))
    intensity = stage.network.segmenter.intensity
    if intensity in ("equalise", "matched"):
        what = (
            f"the segmenter of stage {stage.name!r} has intensity: {intensity}, which passes no gradient on: "
            "its losses train the segmenter, and no generator"
        )
        yield Finding(path, what, "warning")
    if segmenter.translator is not None:
        what = f"the segmenter of stage {stage.name!r} has translator layers; name a stage without them"
        yield Finding(path, what)


def files_of(structures: Sequence[str]) -> dict[str, str]:
    """Returns the endings of the files that `predict` writes for an image, by their columns."""
    several = [f"mask_{name}" for name in structures] if len(structures) > 1 else ["mask"]
    columns = [*(several if structures else ()), "translated"]
    return {column: f"_{column}.png" for column in columns}


TASK = Task(
    name="translation",
    version=3,
    metrics_version=METRICS_VERSION,
    metrics=metrics_of,
    image_metrics=metrics_of_structures,
    model=Model,
    training=Training,
    identity=Identity,
    learner="xferlab.tasks.translation.learner:TranslationLearner",
    targets="structures",
    sets=SETS,
    targets_from=SEGMENTER,
    networks={SEGMENTER: "structures", "translation": ""},
    network=network,
    check=check,
    check_single=check_single,
    headline="DICE",
    panels="xferlab.tasks.translation.shown:panels",
    panels_show="The image, its translation, and over the image the segmentation by way of domain a, filled, "
    "with the reference outlined in yellow; without a segmenter the image translated back.",
    files=files_of,
    report="xferlab.tasks.translation.report",
)
