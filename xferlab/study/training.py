"""The training section of a study file: how one stage learns."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from xferlab.section import Float, Int, Section
from xferlab.study.adapt import Augmentations


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


class Training(Section):
    """One training; everything here except `checkpoint_every_s` is part of a trial's identity."""

    loss: Literal["dice", "dice_as_printed", "cross_entropy", "dice_cross_entropy", "focal_tversky"] = "dice"
    """`dice` is 1 - (2I + s)/(P + T + s); `dice_as_printed` is equation 1 of vidal2021 to the letter."""
    smoothing: Float = Field(1.0, gt=0, le=1e30)
    """The constant s of the loss (lambda in the paper)."""
    optimizer: Literal["adam"] = "adam"
    """Optimizer."""
    lr: Float = Field(1e-3, gt=0)
    """Initial learning rate."""
    batch_size: Int = Field(16, ge=1)
    """Images in a batch."""
    max_epochs: Int = Field(200, ge=1)
    """Upper bound on epochs."""
    patience: Int = Field(20, ge=1)
    """Stop at this many consecutive validations without improvement."""
    plateau: Plateau | None = Field(default_factory=Plateau)
    """Learning-rate reduction; null keeps the rate."""
    rotation: Rotation | None = Field(default_factory=Rotation)
    """Augmentation; null trains on the images as they are."""
    augmentation: Augmentations | None = None
    """What else varies between epochs."""
    intensity: Literal["zscore", "unit", "minmax", "equalise"] = "zscore"
    """`zscore`: each image by its own mean and deviation; `unit`: divided by 255; `minmax`: each by its own
    range; `equalise`: histogram equalisation, then gamma 0.5 (oh2020)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Resolved when planning; results are bit-equal on the CPU only."""
    threads: Int = Field(1, ge=1, le=256)
    """CPU threads of the network, independent of `resources`; another number gives other bits."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """Of the forward and backward pass; loss and evaluation are IEEE float32 always. `tf32`, on CUDA only, is
    float32 whose convolutions round their factors to 10 bits; `auto` is bfloat16 where the device has it."""
    deterministic: bool = True
    """On CUDA: deterministic algorithms, somewhat slower."""
    compile: bool = False
    """Use torch.compile."""
    checkpoint_every_s: Float = Field(60.0, gt=0)
    """Seconds between two checkpoints of the state needed to resume."""
