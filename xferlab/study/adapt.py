"""What a study may change about weights, cases and images that a stage takes over: the ablations' fields."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from xferlab.section import Float, Int, Section

Level = Literal[
    "encoder1", "encoder2", "encoder3", "encoder4", "bottleneck",
    "decoder4", "decoder3", "decoder2", "decoder1", "head",
]  # fmt: skip
ENCODER = ("encoder1", "encoder2", "encoder3", "encoder4", "bottleneck")


SMALLEST_SIDE = 16
"""Of an image in pixels: four poolings leave one pixel of it."""


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"{value} is even; the nearest kernels are {value - 1} and {value + 1}")
    return value


def _sixteens(value: int) -> int:
    if value % 16:
        lower, upper = value // 16 * 16, (value // 16 + 1) * 16
        raise ValueError(f"{value} is not divisible by 16; the nearest sizes are {lower} and {upper}")
    return value


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"{value[0]:g} to {value[1]:g} falls; give the lower number first")
    return value


Positive = Annotated[Float, Field(gt=0)]
Sixteens = Annotated[Int, Field(ge=SMALLEST_SIDE, le=4096), AfterValidator(_sixteens)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(_rising)]
_Magnification = Annotated[Float, Field(ge=0.1, le=10)]


class Tiling(Section):
    """How images of native size are cut into squares."""

    size: Sixteens
    """Side of a tile in pixels, divisible by 16; no image's side may be shorter."""
    overlap: Float = Field(0.5, ge=0, lt=1)
    """Share of the side that neighbouring tiles have in common where they predict."""
    hit: Float = Field(0.5, ge=0, le=1)
    """Share of the tiles to train on that are put where the structure is; the others lie anywhere."""


class TranslatorLayers(Section):
    """New layers on the last decoder level's features, in place of the head ("domain translator")."""

    depth: Int = Field(2, ge=1, le=16)
    """Convolutions, each with batch norm and ReLU, before a 1x1 convolution to the output."""
    width: Int = Field(32, ge=1, le=512)
    """Their channels."""
    kernel: Annotated[Int, AfterValidator(_odd)] = Field(3, ge=1, le=15)
    """Side of their kernels, odd."""


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
    gamma: Range | None = None
    """Lowest and highest exponent of the grey levels."""
    scale: Annotated[tuple[_Magnification, _Magnification], AfterValidator(_rising)] | None = None
    """Lowest and highest magnification; a tile is cut from as much more of its image as it is shrunk."""
    flip: Float | None = Field(None, gt=0, le=1)
    """Share of images mirrored left to right."""
