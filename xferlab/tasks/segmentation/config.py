"""Segmentation: the identity of its trials, and what the engine must know of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from xferlab.metrics.measuring import METRICS_VERSION, metrics_of
from xferlab.metrics.pairs import unions_of
from xferlab.metrics.score import Score
from xferlab.tasks.config import OBJECTS, ORIGINAL, CaseProblem, Size, TrialIdentity
from xferlab.tasks.segmentation.checks import check, check_single
from xferlab.tasks.segmentation.sections import (
    EXCLUSIVE,
    LAYERS,
    Adapt,
    Learning,
    Model,
    Network,
    Training,
    package_of,
)
from xferlab.tasks.task import Origin, Task


class Identity(TrialIdentity):
    """The identity of a trial of segmentation."""

    judged_by = ("loss", "smoothing", "class_weights", "score", "batch_size")
    layers = LAYERS
    model: Network
    training: Learning
    adapt: Adapt | None = None

    @property
    def score(self) -> Score:
        """By which value of the validation cases epochs are judged."""
        return Score(self.training.score, "higher") if self.training.score else Score("loss", "lower")

    @property
    def compared_layers(self) -> tuple[str, ...]:
        """The levels of its network but the head."""
        return self.model.layers

    @property
    def default_targets(self) -> tuple[str, ...]:
        """What structures are called where only weights are at hand."""
        number = self.model.structures
        return tuple(f"structure{n}" for n in range(1, number + 1)) if number else ("structure",)

    @property
    def has_threshold(self) -> bool:
        """Whether each structure is where its own output is above a threshold, whatever the others are."""
        return not self.model.is_exclusive or self.model.structures is None

    @property
    def exclusive_targets(self) -> bool:
        """Whether no pixel of a case that it trains on may belong to two structures."""
        return self.model.outputs == "exclusive" and self.model.structures is not None

    @property
    def image_size(self) -> Size:
        """The size at which the network takes images."""
        return self.model.image_size

    @property
    def preprocessing(self) -> str:
        """How grey levels are normalised."""
        return self.training.intensity

    @property
    def trains_singly(self) -> bool:
        """Whether it trains on whole images of native size, one at a time."""
        whole = self.image_size == "native" and self.model.tiles is None
        return whole and self.training.batch_size == 1

    @property
    def needs_sizes(self) -> bool:
        """Whether sizes of images matter: to tiles, and to batch norm in batches of one image."""
        return self.model.tiles is not None or self._normalises_singly

    @property
    def _normalises_singly(self) -> bool:
        return self.trains_singly and self.model.normalises_bottleneck

    def check_sizes(
        self, sizes: Mapping[str, tuple[int, int]], trained: Collection[str]
    ) -> Iterator[CaseProblem]:
        """Yields images that are smaller than a tile, or that leave one pixel at the bottleneck."""
        if self.model.tiles is not None:
            yield from _smaller_than_a_tile(self.model.tiles.size, sizes, self.model.size_multiple)
        if self._normalises_singly:
            of_training = {digest: sizes[digest] for digest in trained}
            yield from _one_pixel_deep(of_training, self.model.size_multiple)


def _smaller_than_a_tile(
    tile: int, sizes: Mapping[str, tuple[int, int]], multiple: int
) -> Iterator[CaseProblem]:
    small = {digest: size for digest, size in sizes.items() if min(size) < tile}
    if not small:
        return
    height, width = min(small.values(), key=min)
    fitting = min(height, width) // multiple * multiple
    remedy = f"set model.tiles.size to {fitting} at most, " if fitting else ""
    yield CaseProblem(
        tuple(small),
        f"tiles of {tile} px are larger than {len(small)} of {len(sizes)} images ({{names}}; the smallest "
        f"has {width} x {height} px); {remedy}keep larger images only (`where`), or leave model.tiles out: "
        "images are then taken whole",
    )


def _one_pixel_deep(sizes: Mapping[str, tuple[int, int]], multiple: int) -> Iterator[CaseProblem]:
    small = tuple(digest for digest, size in sizes.items() if max(size) <= multiple)
    if small:
        yield CaseProblem(
            small,
            f"{len(small)} of {len(sizes)} training images have at most {multiple} px ({{names}}) and "
            "are trained on one at a time: their bottleneck is one pixel, and batch norm needs two values of "
            "each channel; set training.batch_size to 2 or more, or keep larger images only (`where`)",
        )


def network(
    model: Model,
    adaptations: Sequence[Adapt | None],
    structures: Sequence[str],
    origins: Mapping[str, Origin],
) -> Network:
    """Returns the network of some structures after all adaptations, in order from the root."""
    changes: dict[str, Any]
    if len(structures) > 1:
        changes = {"outputs": model.outputs or "overlapping", "structures": len(structures)}
    else:  # a single structure overlaps with nothing
        changes = {"outputs": "exclusive" if model.outputs in EXCLUSIVE else None}
    for adapt in filter(None, adaptations):
        changes |= {"in_channels": 1} if adapt.fold is not None else {}
        changes |= {"translator": adapt.translator} if adapt.translator is not None else {}
    changes["package"] = package_of(model.name)
    return Network(**{**dict(model), **changes})


def files_of(structures: Sequence[str]) -> dict[str, str]:
    """Returns the endings of the files that `predict` writes for an image, by their columns.

    Several structures have a mask each, so that they may overlap, and so that a data section can read them:
    `structures: {heart: mask_heart}`.
    """
    several = [f"mask_{name}" for name in structures] if len(structures) > 1 else ["mask"]
    return {column: f"_{column}.png" for column in (*several, "overlay")}


ENSEMBLE_FILES = {"entropy_map": "_entropy.png", "disagreement_map": "_disagreement.png"}
"""What `predict` adds for several networks, as `files_of`."""

TASK = Task(
    name="segmentation",
    version=4,
    metrics_version=METRICS_VERSION,
    metrics=metrics_of,
    image_metrics=metrics_of,
    model=Model,
    training=Training,
    identity=Identity,
    learner="xferlab.tasks.segmentation.learner:SegmentationLearner",
    targets="structures",
    composed=unions_of,
    adapt=Adapt,
    new_head=lambda adapt: adapt.head == "new" or adapt.translator is not None,
    network=network,
    check=check,
    check_single=check_single,
    headline="DICE",
    panels="xferlab.tasks.pictures:panels",
    panels_show="The image, and over it the output, filled, with the reference outlined in yellow.",
    variants=(*OBJECTS, ORIGINAL),
    files=files_of,
    ensemble_files=ENSEMBLE_FILES,
    report="xferlab.tasks.segmentation.report",
    of_weights="xferlab.tasks.segmentation.plain_weights:identity_of_weights",
)
