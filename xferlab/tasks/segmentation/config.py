"""Segmentation in a study file: its network, its training, how weights are taken over, and what cannot be."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Field, model_validator

from xferlab.metrics.measuring import METRICS_VERSION, metrics_of
from xferlab.section import Float, Int, Section
from xferlab.tasks.config import (
    OBJECTS,
    ORIGINAL,
    Finding,
    Loop,
    Path,
    Size,
    SizeProblem,
    StageView,
    Task,
    TrialIdentity,
)
from xferlab.tasks.config import Training as TaskTraining

Level = Literal[
    "encoder1", "encoder2", "encoder3", "encoder4", "bottleneck",
    "decoder4", "decoder3", "decoder2", "decoder1", "head",
]  # fmt: skip
LAYERS = (
    "encoder1", "encoder2", "encoder3", "encoder4", "bottleneck",
    "decoder4", "decoder3", "decoder2", "decoder1",
)  # fmt: skip
ENCODER = LAYERS[:5]

SMALLEST_SIDE = 16
"""Of an image in pixels: four poolings leave one pixel of it."""


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"{value} is even; the nearest kernels are {value - 1} and {value + 1}")
    return value


def _sixteens(value: int) -> int:
    if value % SMALLEST_SIDE:
        lower = value // SMALLEST_SIDE * SMALLEST_SIDE
        raise ValueError(
            f"{value} is not divisible by {SMALLEST_SIDE}; the nearest sizes are {lower} and "
            f"{lower + SMALLEST_SIDE}"
        )
    return value


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"{value[0]:g} to {value[1]:g} falls; give the lower number first")
    return value


_Positive = Annotated[Float, Field(gt=0)]
_Sixteens = Annotated[Int, Field(ge=SMALLEST_SIDE, le=4096), AfterValidator(_sixteens)]
_Range = Annotated[tuple[_Positive, _Positive], AfterValidator(_rising)]
_Magnification = Annotated[Float, Field(ge=0.1, le=10)]


class Tiling(Section):
    """How images of native size are cut into squares."""

    size: _Sixteens
    """Side of a tile in pixels, divisible by 16; no image's side may be shorter."""
    overlap: Float = Field(0.5, ge=0, lt=1)
    """Share of the side that neighbouring tiles have in common where they predict."""
    hit: Float = Field(0.5, ge=0, le=1)
    """Share of the tiles to train on that are put where the structure is; the others lie anywhere."""


class Model(Section):
    """The network; all stages of an arm share it unless a stage changes fields of it."""

    name: Literal["unet"] = "unet"
    """Architecture."""
    init_features: Int = Field(32, ge=1, le=512)
    """Width of the first level; each level doubles it."""
    in_channels: Int = Field(3, ge=1, le=64)
    """Grey images are repeated over these channels."""
    image_size: _Sixteens | Literal["native"] = 256
    """Side in pixels, divisible by 16; images are stretched to the square. `native`: each as it is."""
    tiles: Tiling | None = None
    """With `image_size: native`: train and predict on tiles; null takes images whole."""

    @model_validator(mode="after")
    def _tiles_of_native_images(self) -> Model:
        if self.tiles is not None and self.image_size != "native":
            raise ValueError(
                f"tiles are cut from images of native size, and image_size is {self.image_size}; "
                "set image_size to native, or leave tiles out"
            )
        return self


class TranslatorLayers(Section):
    """New layers on the last decoder level's features, in place of the head ("domain translator")."""

    depth: Int = Field(2, ge=1, le=16)
    """Convolutions, each with batch norm and ReLU, before a 1x1 convolution to the output."""
    width: Int = Field(32, ge=1, le=512)
    """Their channels."""
    kernel: Annotated[Int, AfterValidator(_odd)] = Field(3, ge=1, le=15)
    """Side of their kernels, odd."""


class Network(Model):
    """The network of one stage, as adapted by the stage and those before it."""

    translator: TranslatorLayers | None = None
    """New layers at the end."""


class Freezing(Section):
    """What of the inherited network does not train, and until when; its batch-norm statistics rest, too."""

    part: Literal["donor", "encoder"]
    """`donor`: everything but a translator; `encoder`: its four levels and the bottleneck."""
    unfreeze_after: Annotated[Int, Field(ge=1)] | dict[Level, Annotated[Int, Field(ge=0)]] | None = None
    """Epochs until the part, or each named level, trains; null: to the end."""

    @model_validator(mode="after")
    def _levels_of_the_part(self) -> Freezing:
        if self.part == "encoder" and isinstance(self.unfreeze_after, dict):
            for level in self.unfreeze_after:
                if level not in ENCODER:
                    raise ValueError(
                        f"{level!r} is no level of the encoder ({', '.join(ENCODER)}); name one of these, or "
                        "freeze part: donor"
                    )
        return self

    def thaws_after(self, level: str) -> int | None:
        """Returns the number of epochs after which a level trains; None for never."""
        after = self.unfreeze_after
        return after.get(cast("Level", level)) if isinstance(after, dict) else after

    @property
    def last_thaw(self) -> int:
        """The number of epochs after which all that thaws has thawed; 0 where nothing does."""
        after = self.unfreeze_after
        return max(after.values(), default=0) if isinstance(after, dict) else after or 0


class Adapt(Section):
    """How a stage takes over the weights that it starts from."""

    control: Literal["matched"] | None = None
    """`matched`: every tensor of the weights is shuffled by a seed; same statistics, nothing learnt."""
    fold: Literal["sum", "mean", "luminance"] | None = None
    """Fold the first convolution's three input channels into one, from this stage on."""
    translator: TranslatorLayers | None = None
    """Add layers at the end, from this stage on."""
    freeze: Freezing | None = None
    """Parts that do not train in this stage."""


class Augmentations(Section):
    """What varies between epochs beside the rotation; null leaves a thing as it is."""

    objects: Int | None = Field(None, ge=1, le=32)
    """Largest number of bright lines and discs laid on an image."""
    blur: Float | None = Field(None, gt=0, le=16)
    """Largest deviation of a Gaussian blur, in pixels."""
    noise: Float | None = Field(None, gt=0, le=1)
    """Largest deviation of Gaussian noise, as a share of the grey range."""
    gamma: _Range | None = None
    """Lowest and highest exponent of the grey levels."""
    scale: Annotated[tuple[_Magnification, _Magnification], AfterValidator(_rising)] | None = None
    """Lowest and highest magnification; a tile is cut from as much more of its image as it is shrunk."""
    flip: Float | None = Field(None, gt=0, le=1)
    """Share of images mirrored left to right."""


class Rotation(Section):
    """Rotation about the image centre, uniform in ±degrees."""

    degrees: Float = Field(10.0, ge=0, le=180)
    """Largest angle."""
    probability: Float = Field(0.75, ge=0, le=1)
    """Share of samples that are rotated, drawn anew in each epoch."""


class Plateau(Section):
    """Reduce the learning rate when the validation loss stalls."""

    factor: Float = Field(0.1, gt=0, lt=1)
    """The learning rate is multiplied by it."""
    patience: Int = Field(10, ge=1)
    """The rate falls at the first epoch without improvement beyond this many in a row (as in PyTorch)."""


class Learning(Loop):
    """How one stage learns: the part of a training that is in a trial's identity."""

    loss: Literal["dice", "dice_as_printed", "cross_entropy", "dice_cross_entropy", "focal_tversky"] = "dice"
    """`dice` is 1 - (2I + s)/(P + T + s); `dice_as_printed` is equation 1 of vidal2021 to the letter."""
    smoothing: Float = Field(1.0, gt=0, le=1e30)
    """The constant s of the loss (lambda in the paper)."""
    optimizer: Literal["adam"] = "adam"
    """Optimizer."""
    lr: Float = Field(1e-3, gt=0)
    """Initial learning rate."""
    plateau: Plateau | None = Field(default_factory=Plateau)
    """Learning-rate reduction; null keeps the rate."""
    rotation: Rotation | None = Field(default_factory=Rotation)
    """Augmentation; null trains on the images as they are."""
    augmentation: Augmentations | None = None
    """What else varies between epochs."""
    intensity: Literal["zscore", "unit", "minmax", "equalise"] = "zscore"
    """`zscore`: each image by its own mean and deviation; `unit`: divided by 255; `minmax`: each by its own
    range; `equalise`: histogram equalisation, then gamma 0.5 (oh2020)."""


class Training(Learning, TaskTraining):
    """One training; everything here except `checkpoint_every_s` is part of a trial's identity."""


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


# --- what cannot be -----------------------------------------------------------------------------------------


def check(stage: StageView) -> Iterator[Finding]:
    """Yields what is wrong or odd about a stage's images and the weights that it takes over."""
    yield from _channels(stage)
    yield from _structures(stage)
    if stage.training.batch_size == 1:
        path = stage.written("batch_size")
        yield from check_single(stage, path, "batch_size is 1", "set training.batch_size to 2 or more")
    if stage.adapt is not None and stage.parent_network is not None:
        yield from _adaptation(stage, stage.adapt, stage.parent_network)


def check_single(stage: StageView, path: Path, why: str, remedy: str) -> Iterator[Finding]:
    """Yields a finding if a stage would train a bottleneck of one pixel on single images.

    Args:
        stage: The stage.
        path: What makes the images single.
        why: How it does.
        remedy: What to do about it; a larger image is another way.
    """
    tiled = stage.model.tiles is not None
    if (stage.model.tiles.size if tiled else stage.model.image_size) != SMALLEST_SIDE:
        return
    if stage.adapt is not None and stage.adapt.freeze is not None:
        epoch = stage.adapt.freeze.thaws_after("bottleneck")
        if epoch is None or epoch >= stage.training.max_epochs:
            return
    side: Path = ("model", "tiles", "size") if tiled else ("model", "image_size")
    yield Finding(
        path,
        f"stage {stage.name!r} would train on a single image at a time ({why}), and at {SMALLEST_SIDE} px "
        f"its bottleneck is one pixel: batch norm needs two values of each channel; {remedy}, or set "
        f"{'.'.join(map(str, side))} to {2 * SMALLEST_SIDE} or more",
        related=(side,),
    )


def _structures(stage: StageView) -> Iterator[Finding]:
    if stage.structures is not None and len(stage.structures) != 1:
        yield Finding(
            ("stages", stage.name, "structures"),
            f"stage {stage.name!r} reads {', '.join(stage.structures) or 'no structure'}, and segmentation "
            "learns one; name one in `structures`, or join several in the data section",
            related=(("stages", stage.name, "data"),),
        )


def _channels(stage: StageView) -> Iterator[Finding]:
    """Colour images for a network of other channels: only grey images fit any."""
    expected = stage.network.in_channels
    for (section, path), channels in stage.channels.items():
        if channels not in (1, expected):
            yield Finding(
                path,
                f"the images of {section!r} have {channels} channels, and the network of stage "
                f"{stage.name!r} takes {expected}; set model.in_channels: {channels}, and fold the channels "
                "(adapt: {fold: sum}) in a later stage, whose images are grey",
                related=(("model", "in_channels"), *_adapting(stage.lineage, "fold")),
            )


def _adaptation(stage: StageView, adapt: Adapt, before: Network) -> Iterator[Finding]:
    path: Path = ("stages", stage.name, "adapt")
    ancestors = stage.lineage[:-1]
    if adapt.fold is not None and before.in_channels != 3:
        changed = before.in_channels != stage.model.in_channels
        remedy = "leave fold out" if changed else "leave fold out, or set model.in_channels: 3"
        yield Finding(
            (*path, "fold"),
            f"the network of stage {stage.parent!r} has {before.in_channels} input channels, and only three "
            f"can be folded into one; {remedy}",
            related=(("model", "in_channels"), *_adapting(ancestors, "fold")),
        )
    if adapt.translator is not None and before.translator is not None:
        yield Finding(
            (*path, "translator"),
            f"stage {stage.parent!r} hands down a translator already; leave it out",
            related=tuple(_adapting(ancestors, "translator")),
        )
    if adapt.freeze is not None:
        yield from _freezing(stage, adapt.freeze)


def _freezing(stage: StageView, freeze: Freezing) -> Iterator[Finding]:
    path: Path = ("stages", stage.name, "adapt", "freeze")
    thaws = freeze.unfreeze_after
    trains_at_once = isinstance(thaws, Mapping) and 0 in thaws.values()
    if freeze.part == "donor" and stage.network.translator is None and not trains_at_once:
        yield Finding(
            path,
            "the whole donor is frozen and no translator is added, so that nothing would train in the first "
            "epoch; add adapt.translator, freeze the encoder only, or let a level train from epoch 0",
        )
    if freeze.last_thaw >= stage.training.max_epochs:
        yield Finding(
            (*path, "unfreeze_after"),
            f"it thaws after {freeze.last_thaw} epochs, and the stage trains for "
            f"{stage.training.max_epochs} at most",
            "warning",
            related=(("stages", stage.name, "training", "max_epochs"), ("training", "max_epochs")),
        )


def _adapting(stages: Sequence[str], field: str) -> Iterator[Path]:
    yield from (("stages", name, "adapt", field) for name in stages)


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
