"""Binary segmentation: one structure against background, with pixels to ignore."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from xferlab.errors import TrainingError
from xferlab.metrics.measuring import measure
from xferlab.tasks.segmentation.losses import LOSSES
from xferlab.training.augment import Augmentation, mirror, rotate, rotation_angles
from xferlab.training.batches import Rows
from xferlab.training.degradation import degrade
from xferlab.training.examples import IGNORED, STRUCTURE, AnyExamples, ImageExamples, Pixels
from xferlab.training.intensity import normalise
from xferlab.training.learner import AugmentationSeed
from xferlab.training.precision import float32
from xferlab.training.randomness import between, uniform
from xferlab.training.supervised import Forward


@dataclass(frozen=True)
class ImageBatch:
    """Network input (N, C, H, W) float32, target and valid (N, 1, H, W) float32."""

    inputs: torch.Tensor
    target: torch.Tensor
    valid: torch.Tensor


@dataclass(frozen=True)
class BinarySegmentation:
    """Images of one size: how they become batches, and what the loss is.

    Attributes:
        in_channels: Channels of the network; a grey image is repeated over them.
        intensity: Name in `INTENSITIES`: `zscore` (each image and channel by its own mean and deviation),
            `unit` (divided by 255), `minmax` (each by its own range) or `equalise` (histogram, then gamma).
        rotation: (degrees, probability), or None for none.
        loss_name: Name in `LOSSES`.
        smoothing: The constant of the Dice losses and of focal Tversky.
        augmentation: What varies beside the rotation, or None.
    """

    in_channels: int
    intensity: str = "zscore"
    rotation: tuple[float, float] | None = None
    loss_name: str = "dice"
    smoothing: float = 1.0
    augmentation: Augmentation | None = None

    def batch(self, examples: ImageExamples, rows: Rows, draw: AugmentationSeed | None) -> ImageBatch:
        """Returns normalised images with their targets, augmented if there is something to draw from.

        Raises:
            TrainingError: The images are not grey and have another number of channels than the network.
        """
        raw, labels = examples.take(rows)
        _check_channels(raw.shape[1], self.in_channels)
        keys = examples.keys[rows]
        if draw is not None and self.augmentation is not None:
            raw = degrade(raw, keys, self.augmentation, draw)
        images = normalise(raw, self.intensity)
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
        """Returns normalised images (N, C, H, W) and targets (N, 1, H, W) turned, scaled and mirrored."""
        seed, epoch, options = draw.seed, draw.epoch, self.augmentation or Augmentation()
        angles, scales = np.zeros(len(keys)), None
        if self.rotation is not None:
            degrees, probability = self.rotation
            angles = rotation_angles(keys, degrees=degrees, probability=probability, seed=seed, epoch=epoch)
        if options.flip is not None:
            chosen = uniform(keys, seed=seed, purpose="flip", epoch=epoch) < options.flip
            images, targets = mirror(images, targets, chosen)
        if options.scale is not None:
            scales = between(keys, draw, "scale", low=options.scale[0], high=options.scale[1])
        return rotate(images, targets, angles, scales)

    def framed(self, images: torch.Tensor, targets: torch.Tensor) -> ImageBatch:
        """Returns normalised images (N, C, H, W) and targets (N, 1, H, W), all float32, as a batch."""
        if images.shape[1] != self.in_channels:
            images = images.expand(-1, self.in_channels, -1, -1)
        inputs = images.contiguous(memory_format=torch.channels_last)
        return ImageBatch(inputs, (targets == STRUCTURE).float(), (targets != IGNORED).float())

    def loss(self, forward: Forward, batch: ImageBatch) -> torch.Tensor:
        """Returns the loss in float32."""
        return LOSSES[self.loss_name](forward(batch.inputs), batch.target, batch.valid, self.smoothing)

    def predict(self, model: nn.Module, batch: ImageBatch) -> npt.NDArray[np.float32]:
        """Returns probabilities (N, H, W), float32 throughout: a bfloat16 sigmoid ties near 1."""
        with torch.inference_mode(), float32():
            probability = torch.sigmoid(model(batch.inputs).float())
        return cast("npt.NDArray[np.float32]", probability[:, 0].cpu().numpy())


def metrics_of(examples: AnyExamples, row: int, prediction: npt.NDArray[np.float32]) -> dict[str, float]:
    """Returns the metrics of a case whose prediction has its size."""
    target = examples.case(row)[1][0]
    spacing = examples.spacing_mm[row]
    known = None if np.isnan(spacing).any() else (float(spacing[0]), float(spacing[1]))
    return measure(prediction, target == STRUCTURE, ignore=target == IGNORED, spacing_mm=known)


def outputs_of(examples: AnyExamples, row: int, prediction: npt.NDArray[np.float32]) -> dict[str, Pixels]:
    """Returns the first channel, the target and the probability (times 255) of a case, uint8 (H, W)."""
    image, targets = examples.case(row)
    probability = np.rint(prediction * 255.0).astype(np.uint8)
    return {"image": image[0], "target": targets[0], "probability": probability}


def _check_channels(channels: int, accepted: int) -> None:
    if channels not in (1, accepted):
        raise TrainingError(
            f"images have {channels} channels and the network takes {accepted}; only grey images are "
            f"repeated over channels. Set model.in_channels to {channels}, or use grey images."
        )


def at_size(probability: npt.NDArray[np.float32], *, width: int, height: int) -> npt.NDArray[np.float32]:
    """Returns a probability map stretched to `(height, width)`, bilinear, antialiased where it shrinks."""
    picture = Image.fromarray(np.ascontiguousarray(probability))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
