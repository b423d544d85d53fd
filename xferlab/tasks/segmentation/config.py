"""Segmentation: the identity of its trials, and what the engine must know of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from xferlab.metrics.measuring import METRICS_VERSION, metrics_of
from xferlab.tasks.config import OBJECTS, ORIGINAL, Size, SizeProblem, Task, TrialIdentity
from xferlab.tasks.segmentation.checks import check, check_single
from xferlab.tasks.segmentation.sections import (
    LAYERS,
    SMALLEST_SIDE,
    Adapt,
    Learning,
    Model,
    Network,
    Training,
)


class Identity(TrialIdentity):
    """The identity of a trial of segmentation."""

    judged_by = ("loss", "smoothing", "batch_size")
    layers = LAYERS
    model: Network
    training: Learning
    adapt: Adapt | None = None

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
        """Whether sizes of images matter: to tiles, and to batches of one image."""
        return self.model.tiles is not None or self.trains_singly

    def check_sizes(
        self, sizes: Mapping[str, tuple[int, int]], trained: Collection[str]
    ) -> Iterator[SizeProblem]:
        """Yields images that are smaller than a tile, or that leave one pixel at the bottleneck."""
        if self.model.tiles is not None:
            yield from _smaller_than_a_tile(self.model.tiles.size, sizes)
        if self.trains_singly:
            yield from _one_pixel_deep({digest: sizes[digest] for digest in trained})


def _smaller_than_a_tile(tile: int, sizes: Mapping[str, tuple[int, int]]) -> Iterator[SizeProblem]:
    small = {digest: size for digest, size in sizes.items() if min(size) < tile}
    if not small:
        return
    height, width = min(small.values(), key=min)
    fitting = min(height, width) // SMALLEST_SIDE * SMALLEST_SIDE
    remedy = f"set model.tiles.size to {fitting} at most, " if fitting else ""
    yield SizeProblem(
        tuple(small),
        f"tiles of {tile} px are larger than {len(small)} of {len(sizes)} images ({{names}}; the smallest "
        f"has {width} x {height} px); {remedy}keep larger images only (`where`), or leave model.tiles out: "
        "images are then taken whole",
    )


def _one_pixel_deep(sizes: Mapping[str, tuple[int, int]]) -> Iterator[SizeProblem]:
    small = tuple(digest for digest, size in sizes.items() if max(size) <= SMALLEST_SIDE)
    if small:
        yield SizeProblem(
            small,
            f"{len(small)} of {len(sizes)} training images have at most {SMALLEST_SIDE} px ({{names}}) and "
            "are trained on one at a time: their bottleneck is one pixel, and batch norm needs two values of "
            "each channel; set training.batch_size to 2 or more, or keep larger images only (`where`)",
        )


def network(model: Model, adaptations: Sequence[Adapt | None]) -> Network:
    """Returns the network after all adaptations, in order from the root."""
    changes: dict[str, Any] = {}
    for adapt in filter(None, adaptations):
        changes |= {"in_channels": 1} if adapt.fold is not None else {}
        changes |= {"translator": adapt.translator} if adapt.translator is not None else {}
    return Network(**{**dict(model), **changes})


TASK = Task(
    name="segmentation",
    version=1,
    metrics_version=METRICS_VERSION,
    metrics=metrics_of,
    model=Model,
    training=Training,
    identity=Identity,
    learner="xferlab.tasks.segmentation.learner:SegmentationLearner",
    targets="structures",
    adapt=Adapt,
    network=network,
    check=check,
    check_single=check_single,
    headline="DICE",
    variants=(*OBJECTS, ORIGINAL),
    files={"mask": "_mask.png", "overlay": "_overlay.png"},
    report="xferlab.tasks.segmentation.report",
    of_weights="xferlab.tasks.segmentation.learner:identity_of_weights",
    has_threshold=True,
)
