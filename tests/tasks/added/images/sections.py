"""What the tests' tasks have in common: one square size for all images, and a learning rate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from xferlab.section import Float, Int, Section
from xferlab.tasks import roles
from xferlab.tasks.config import Loop, Size, TrialIdentity
from xferlab.tasks.config import Training as TaskTraining


class Model(Section):
    """A small network."""

    image_size: Int = Field(16, ge=8, le=1024)
    """Side of the images in pixels."""


class Learning(Loop):
    """How a stage learns."""

    lr: Float = Field(1e-2, gt=0)
    """Learning rate."""


class Training(Learning, TaskTraining):
    """The section `training`."""


class Identity(TrialIdentity):
    """The identity of a trial; a task's own has the task's own model."""

    model: Model
    training: Learning

    @property
    def image_size(self) -> Size:
        """The size at which the network takes images."""
        return self.model.image_size


class Masks(roles.Masks):
    """The section `masks`."""

    keep: Literal["inside", "outside"] = "inside"
    """Which pixels stay."""
