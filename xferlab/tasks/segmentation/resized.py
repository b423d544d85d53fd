"""Segmentation of one or several structures on images of one size, with pixels to ignore."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from xferlab.metrics.measuring import THRESHOLD
from xferlab.training.augment import Augmentation, move
from xferlab.training.batches import Rows
from xferlab.training.degradation import degrade
from xferlab.training.examples import IGNORED, STRUCTURE, ImageExamples
from xferlab.training.intensity import check_channels, normalise
from xferlab.training.learner import AugmentationSeed
from xferlab.training.pixel_losses import loss_of, probabilities
from xferlab.training.precision import float32
from xferlab.training.reference import Reference
from xferlab.training.structures import Masks, Probabilities, masks_of
from xferlab.training.supervised import Forward


class ImageBatch(NamedTuple):
    """Network input (N, C, H, W) float32, target and valid (N, S, H, W) float32."""

    inputs: torch.Tensor
    target: torch.Tensor
    valid: torch.Tensor


@dataclass(frozen=True)
class ResizedSegmentation:
    """Images of one size: how they become batches, and what the loss is.

    Attributes:
        in_channels: Channels of the network; a grey image is repeated over them.
        intensity: Name in `INTENSITIES`: `zscore` (each image and channel by its own mean and deviation),
            `unit` (divided by 255), `minmax` (each by its own range), `raw` (0 to 255) or `equalise`
            (histogram, then gamma). With a reference, what that does.
        rotation: (degrees, probability), or None for none.
        loss_name: Name in `LOSSES`.
        smoothing: The constant of the Dice losses and of focal Tversky.
        augmentation: What varies beside the rotation, or None.
        is_exclusive: Whether a pixel belongs to one structure at most: softmax after a channel of background.
        first_counts: Whether a pixel of several masks is learnt as the first of their structures.
        class_weights: Of the background and each structure, in the cross entropy of exclusive ones, or None.
        size_multiple: What the sides of images are multiples of that the network takes.
        reference: What all images are brought to have in common, part of the network, or None.
        memory_format: How the network's images lie in memory.
    """

    in_channels: int
    intensity: str = "zscore"
    rotation: tuple[float, float] | None = None
    loss_name: str = "dice"
    smoothing: float = 1.0
    augmentation: Augmentation | None = None
    is_exclusive: bool = False
    first_counts: bool = False
    class_weights: tuple[float, ...] | None = None
    size_multiple: int = 16
    reference: Reference | None = None
    memory_format: torch.memory_format = torch.channels_last

    def batch(self, examples: ImageExamples, rows: Rows, draw: AugmentationSeed | None) -> ImageBatch:
        """Returns normalised images with their targets, augmented if there is something to draw from.

        Raises:
            TrainingError: The images are not grey and have another number of channels than the network.
        """
        raw, labels = examples.take(rows)
        check_channels(raw.shape[1], self.in_channels)
        keys = examples.keys[rows]
        if draw is not None and self.augmentation is not None:
            raw = degrade(raw, keys, self.augmentation, draw)
        images = self.reference(raw.float()) if self.reference else normalise(raw, self.intensity)
        targets = labels.float()
        if draw is not None:
            images, targets = self.moved(images, targets, keys, draw)
        return self.framed(images, targets)

    def moved(
        self,
        images: torch.Tensor,
        targets: torch.Tensor,
        keys: npt.NDArray[np.uint64],
        draw: AugmentationSeed,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns normalised images (N, C, H, W) and targets (N, S, H, W) turned, scaled and mirrored.

        A structure without a mask has none afterwards, whatever comes in from outside of the image.
        """
        options = self.augmentation or Augmentation()
        images, moved = move(images, targets, keys, draw, rotation=self.rotation, options=options)
        if targets.shape[1] > 1:
            is_absent = (targets == IGNORED).all(dim=-1, keepdim=True).all(dim=-2, keepdim=True)
            moved = torch.where(is_absent, targets, moved)
        return images, moved

    def framed(self, images: torch.Tensor, targets: torch.Tensor) -> ImageBatch:
        """Returns normalised images (N, C, H, W) and targets (N, S, H, W), all float32, as a batch."""
        if images.shape[1] != self.in_channels:
            images = images.expand(-1, self.in_channels, -1, -1)
        inputs = images.contiguous(memory_format=self.memory_format)
        target = targets == STRUCTURE
        if self.first_counts:
            target = target & (target.cumsum(dim=1) == 1)
        return ImageBatch(inputs, target.float(), (targets != IGNORED).float())

    def loss(self, forward: Forward, batch: ImageBatch) -> torch.Tensor:
        """Returns the loss in float32."""
        return loss_of(
            self.loss_name,
            forward(batch.inputs),
            batch.target,
            batch.valid,
            self.smoothing,
            is_exclusive=self.is_exclusive,
            class_weights=self.class_weights,
        )

    def predict(self, model: nn.Module, batch: ImageBatch) -> npt.NDArray[np.float32]:
        """Returns probabilities (N, S, H, W), float32 throughout: a bfloat16 sigmoid ties near 1."""
        with torch.inference_mode(), float32():
            probability = probabilities(model(batch.inputs).float(), is_exclusive=self.is_exclusive)
        return cast("npt.NDArray[np.float32]", probability.cpu().numpy())

    def masks(self, prediction: Probabilities, threshold: float = THRESHOLD) -> Masks:
        """Returns where each structure is, (S, H, W), as `structures.masks_of` tells it."""
        return masks_of(prediction, threshold, is_exclusive=self.is_exclusive)
