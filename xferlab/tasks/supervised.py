"""What a study file may say of a training by one loss, whatever is learnt: rate, rotation, augmentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from xferlab.section import Float, Int, Section
from xferlab.tasks.config import Loop


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"{value[0]:g} to {value[1]:g} falls; give the lower number first")
    return value


_Positive = Annotated[Float, Field(gt=0)]
_Range = Annotated[tuple[_Positive, _Positive], AfterValidator(_rising)]
_Magnification = Annotated[Float, Field(ge=0.1, le=10)]


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
    """Reduce the learning rate when the score of epochs stalls."""

    factor: Float = Field(0.1, gt=0, lt=1)
    """The learning rate is multiplied by it."""
    patience: Int = Field(10, ge=1)
    """The rate falls at the first epoch without improvement beyond this many in a row (as in PyTorch)."""


class Supervised(Loop):
    """How one network learns from one loss: the part of a training that is in a trial's identity."""

    optimizer: Literal["adam"] = "adam"
    """Optimizer."""
    lr: Float = Field(1e-3, gt=0)
    """Initial learning rate."""
    plateau: Plateau | None = None
    """Learning-rate reduction; null keeps the rate."""
    rotation: Rotation | None = None
    """Augmentation; null trains on the images as they are."""
    augmentation: Augmentations | None = None
    """What else varies between epochs."""

    @property
    def reduction(self) -> tuple[float, int] | None:
        """(factor, patience) of the learning-rate reduction; None keeps the rate."""
        return (self.plateau.factor, self.plateau.patience) if self.plateau else None

    @property
    def turns(self) -> tuple[float, float] | None:
        """(degrees, probability) of the rotation; None for none."""
        return (self.rotation.degrees, self.rotation.probability) if self.rotation else None
