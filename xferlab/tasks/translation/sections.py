"""What a study file may say of translation: its networks, and how they train against each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from xferlab.section import Float, Int, Section, null_if
from xferlab.tasks.config import Loop
from xferlab.tasks.config import Training as TaskTraining

SIZES: Mapping[str, Mapping[str, int]] = {
    "cyclegan": {"width": 32, "blocks": 2, "discriminator_width": 64},
    "munit_small": {"width": 32, "blocks": 2, "discriminator_width": 32},
    "munit": {"width": 64, "blocks": 4, "discriminator_width": 64},
}
"""Default sizes of the networks."""
MULTIPLE = 4
"""Of sides of images in pixels: the generators halve them twice."""
SMALLEST_SIDE, SMALLEST_SIDE_OF_MUNIT = 32, 64

_Share = Annotated[Float, Field(ge=0, lt=1)]
_Weight = Annotated[Float, Field(ge=0, le=1e4)]


def _multiple(value: int) -> int:
    if value % MULTIPLE:
        lower = value // MULTIPLE * MULTIPLE
        nearest = f"{lower} and {lower + MULTIPLE}"
        raise ValueError(f"{value} is not divisible by {MULTIPLE}; the nearest sizes are {nearest}")
    return value


class Model(Section):
    """The networks that translate, and those that tell translated images from real ones."""

    name: Literal["cyclegan", "munit_small", "munit"] = "cyclegan"
    """`cyclegan`: a generator for each direction (Zhu et al. 2017); `munit`: an auto-encoder for each domain
    (Huang et al. 2018), `munit_small` with the sizes of the code that followed oliveira2018."""
    width: Int | None = Field(None, ge=1, le=256)
    """Channels after the first convolution of a generator; default: 32, and 64 of `munit`."""
    blocks: Int | None = Field(None, ge=1, le=32)
    """Residual blocks of a generator; default: 2, and 4 of `munit`."""
    discriminator_width: Int | None = Field(None, ge=1, le=256)
    """Channels after the first convolution of a discriminator; default: 64, and 32 of `munit_small`."""
    image_size: Annotated[Int, Field(ge=SMALLEST_SIDE, le=4096), AfterValidator(_multiple)] = 256
    """Side in pixels, divisible by 4; images are stretched to the square. That of the segmenter, if any."""

    @model_validator(mode="after")
    def _large_enough(self) -> Model:
        if self.name == "munit" and self.image_size < SMALLEST_SIDE_OF_MUNIT:
            raise ValueError(
                f"image_size is {self.image_size}; the discriminators of munit look at three scales and need "
                f"{SMALLEST_SIDE_OF_MUNIT} or more"
            )
        return self


class Segmenter(Section):
    """The segmenter of a stage, and what its own stage does to images and learns by: taken from there."""

    name: str
    in_channels: int
    out_channels: int
    init_features: int | None = None
    growth: int | None = None
    width: float | None = None
    package: str | None = None
    is_exclusive: bool = False
    first_counts: bool = False
    intensity: str
    loss: str
    smoothing: float
    class_weights: tuple[float, ...] | None = None

    @property
    def structures(self) -> int:
        """How many structures it tells."""
        return self.out_channels - self.is_exclusive

    @property
    def shares_softmax(self) -> bool:
        """Whether several structures exclude each other: of one, the output tells by a threshold."""
        return self.is_exclusive and self.structures > 1


class Network(Model):
    """All networks of a stage."""

    segmenter: Segmenter | None = None
    """What segments images of the first domain; null in a stage that only translates."""

    @model_validator(mode="before")
    @classmethod
    def _as_one_value(cls, value: Any) -> Any:
        """A default that is spelled out is null: equal networks are equal."""
        defaults = SIZES.get(value.get("name", "cyclegan"), {}) if isinstance(value, Mapping) else {}
        spelled = [field for field, default in defaults.items() if value.get(field) == default]
        return {**value, **dict.fromkeys(spelled)} if spelled else value

    @property
    def sizes(self) -> tuple[int, int, int]:
        """`width`, `blocks` and `discriminator_width`."""
        width, blocks, judging = (getattr(self, name) or size for name, size in SIZES[self.name].items())
        return width, blocks, judging


class Decay(Section):
    """A linear fall of all learning rates to 0."""

    after: Int = Field(ge=0)
    """Epochs at the full rate."""
    over: Int = Field(ge=1)
    """Epochs of the fall, behind which the rate is 0."""


class Weights(Section):
    """What the losses are multiplied by before they are summed."""

    adversarial: _Weight = 1.0
    """Of the generators' least-squares loss."""
    cycle: _Weight | None = None
    """Of the L1 distance of an image and its translation there and back; default: 10, and 1 of MUNIT."""
    identity: Annotated[_Weight | None, null_if(0.0)] = None
    """Of the L1 distance of an image and its translation into its own domain; default 0; CycleGAN only."""
    image: _Weight = 10.0
    """Of the L1 distance of an image and its reconstruction; MUNIT only."""
    content: _Weight = 1.0
    """Of the L1 distance of a content code and that of its translation; MUNIT only."""
    style: _Weight = 1.0
    """Of the L1 distance of a style code and that of its translation; MUNIT only."""
    supervised: _Weight = 1.0
    """Of the segmenter's losses."""


class Learning(Loop):
    """How the networks learn: the part of a training that is in a trial's identity."""

    batch_size: Int = Field(4, ge=1)
    """Images of each domain in a batch, and labelled images of the second domain, if any."""
    max_epochs: Int = Field(20, ge=1)
    """Upper bound on epochs."""
    lr: Float = Field(2e-4, gt=0)
    """Learning rate of generators and discriminators, each with an Adam of its own."""
    betas: tuple[_Share, _Share] = (0.5, 0.999)
    """Adam's decay rates for generators and discriminators."""
    weight_decay: Annotated[Float | None, Field(ge=0), null_if(0.0)] = None
    """Factor of the L2 penalty of generators and discriminators; default 0."""
    decay: Decay | None = None
    """How all rates fall; null keeps them."""
    weights: Weights = Field(default_factory=Weights)
    """Of the losses."""
    pool: Int = Field(50, ge=0, le=10_000)
    """Translated images that are kept for the discriminators of each domain; 0 shows them the new ones."""
    segmenter_lr: Float = Field(1e-4, gt=0)
    """Learning rate of the segmenter."""
    segmenter_weight_decay: Float = Field(5e-4, ge=0)
    """Factor of the segmenter's L2 penalty."""
    score: Annotated[Literal["loss", "jaccard"] | None, null_if("loss")] = None
    """By which value of labelled validation images of the second domain epochs are judged: the segmenter's
    `loss` (default), or the mean `jaccard`. Without such labels the last epoch counts."""
    cycle_limit: Float = Field(0.5, gt=0)
    """From which mean L1 distance of images and their translations there and back, of at most 2, an epoch is
    noted as diverged."""


class Training(Learning, TaskTraining):
    """One training; everything here except `checkpoint_every_s` is part of a trial's identity."""


def segmenter_of(network: Any, training: Any) -> Segmenter:
    """Returns what a stage that segments gives, from its sections."""
    return Segmenter(
        name=network.name,
        in_channels=network.in_channels,
        out_channels=network.out_channels,
        init_features=network.init_features,
        growth=network.growth,
        width=getattr(network, "width", None),
        package=getattr(network, "package", None),
        is_exclusive=network.is_exclusive,
        first_counts=network.outputs == "exclusive_first",
        intensity=training.intensity,
        loss=training.loss,
        smoothing=training.smoothing,
        class_weights=training.class_weights,
    )
