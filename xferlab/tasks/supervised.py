"""What a study file may say of a training by one loss, whatever is learnt: steps, rotation, augmentation."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from xferlab.section import Float, Int, Section, null_if
from xferlab.tasks.config import Loop
from xferlab.tasks.config import Training as TaskTraining


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"{value[0]:g} to {value[1]:g} falls; give the lower number first")
    return value


def _later(value: tuple[int, ...]) -> tuple[int, ...]:
    for before, after in pairwise(value):
        if after <= before:
            raise ValueError(f"{after} follows {before}; give the epochs in order, each once")
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
    """Reduce the learning rate when epochs stall."""

    factor: Float = Field(0.1, gt=0, lt=1)
    """The learning rate is multiplied by it."""
    patience: Int = Field(10, ge=1)
    """The rate falls at the first epoch without improvement beyond this many in a row (as in PyTorch)."""
    of: Annotated[Literal["score", "training_loss"] | None, null_if("score")] = None
    """What must improve: the `score` of epochs (default), or the mean `training_loss` of their images."""


class Milestones(Section):
    """Reduce the learning rate after given epochs."""

    epochs: Annotated[tuple[Annotated[Int, Field(ge=1)], ...], Field(min_length=1), AfterValidator(_later)]
    """After each of these, the rate is multiplied by the factor."""
    factor: Float = Field(0.1, gt=0, lt=1)
    """The learning rate is multiplied by it."""


class Supervised(Loop):
    """How one network learns from one loss: the part of a training that is in a trial's identity."""

    optimizer: Literal["adam"] = "adam"
    """Optimizer."""
    lr: Float = Field(1e-3, gt=0)
    """Initial learning rate."""
    weight_decay: Annotated[Float | None, Field(ge=0), null_if(0.0)] = None
    """Factor of Adam's L2 penalty: times a weight, it is added to the weight's gradient; default 0."""
    l1: Annotated[Float | None, Field(ge=0), null_if(0.0)] = None
    """Factor of an L1 penalty: times the sign of a weight, it is added to the weight's gradient; default 0.
    The loss that is noted has no part of it."""
    plateau: Plateau | None = None
    """Learning-rate reduction; null keeps the rate."""
    milestones: Milestones | None = None
    """Learning-rate reduction after given epochs, in place of `plateau`."""
    rotation: Rotation | None = None
    """Augmentation; null trains on the images as they are."""
    augmentation: Annotated[Augmentations | None, null_if(Augmentations())] = None
    """What else varies between epochs."""

    @property
    def optimisation(self) -> dict[str, Any]:
        """The fields of `training.step.Optimisation` that are configured."""
        plateau, milestones = self.plateau, self.milestones
        return {
            "lr": self.lr,
            "weight_decay": self.weight_decay or 0.0,
            "l1": self.l1 or 0.0,
            "plateau": (plateau.factor, plateau.patience) if plateau else None,
            "follows": (plateau and plateau.of) or "score",
            "milestones": (milestones.epochs, milestones.factor) if milestones else None,
        }

    def late_thaw(self, epochs: int) -> tuple[str, str] | None:
        """Returns the field that may end a training before frozen layers thaw, and how; None for none.

        Args:
            epochs: Those after which the last of the layers thaws.
        """
        if epochs >= self.max_epochs:
            what = f"it thaws after {epochs} epochs, and the stage trains for {self.max_epochs} at most"
            return "max_epochs", what
        if epochs >= self.patience:
            return "patience", (
                f"it thaws after {epochs} epochs, and training stops after {self.patience} without "
                "improvement (patience): where frozen epochs stall, it may stop before the thaw or right "
                "after it; thaw sooner, or set patience to more"
            )
        return None

    @property
    def turns(self) -> tuple[float, float] | None:
        """(degrees, probability) of the rotation; None for none."""
        return (self.rotation.degrees, self.rotation.probability) if self.rotation else None


class SupervisedTraining(Supervised, TaskTraining):
    """The section `training` of such a task, which adds its own fields."""

    @model_validator(mode="after")
    def _one_reduction(self) -> SupervisedTraining:
        if self.plateau is not None and self.milestones is not None:
            raise ValueError(
                "plateau and milestones both reduce the learning rate; set plateau to null, or leave "
                "milestones out"
            )
        return self
