"""Segmentation at the size that images have: no pixel is resampled before the network or after it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from xferlab.tasks.segmentation.resized import ImageBatch, ResizedSegmentation
from xferlab.tasks.segmentation.windows import inside, labels_of, normalised, placed
from xferlab.training.batches import Rows
from xferlab.training.degradation import degrade
from xferlab.training.examples import IGNORED, NativeExamples
from xferlab.training.intensity import normalise
from xferlab.training.learner import AugmentationSeed
from xferlab.training.structures import Probabilities
from xferlab.training.supervised import Forward
from xferlab.training.upload import uploaded


class NativeBatch:
    """Some cases on their way through a network: framed for the loss, or one by one for prediction.

    Attributes:
        examples: Where they are.
        rows: Which.
    """

    def __init__(self, examples: NativeExamples, rows: Rows, framed: Callable[[], tuple[ImageBatch, ...]]):
        """Takes what frames the cases; called when the parts are first asked for."""
        self.examples, self.rows, self._framed = examples, rows, framed

    @cached_property
    def parts(self) -> tuple[ImageBatch, ...]:
        """What the loss is computed on, one after the other."""
        return self._framed()


@dataclass(frozen=True)
class OwnSizeSegmentation(ABC):
    """What all segmentation at the images' own size has in common: a loss by parts, a prediction by case.

    Attributes:
        base: Segmentation at a fixed size, with the same intensity, augmentation and loss.
    """

    base: ResizedSegmentation

    @abstractmethod
    def batch(self, examples: NativeExamples, rows: Rows, draw: AugmentationSeed | None) -> NativeBatch:
        """Returns cases with their targets, augmented if there is something to draw from."""

    @abstractmethod
    def whole(self, model: nn.Module, examples: NativeExamples, row: int) -> Probabilities:
        """Returns the probabilities (S, H, W) of one case at its own size."""

    def loss(self, forward: Forward, batch: NativeBatch) -> torch.Tensor:
        """Returns the loss of the base task, float32, the mean over the batch's parts."""
        return torch.stack([self.base.loss(forward, part) for part in batch.parts]).mean()

    def padded(self, length: int) -> int:
        """Returns the next multiple of what the network takes."""
        return math.ceil(length / self.base.size_multiple) * self.base.size_multiple

    def predict(self, model: nn.Module, batch: NativeBatch) -> list[Probabilities]:
        """Returns probabilities (S, H, W) of each case at its own size, float32 throughout."""
        return [self.whole(model, batch.examples, row) for row in batch.rows.tolist()]


@dataclass(frozen=True)
class NativeSegmentation(OwnSizeSegmentation):
    """Segmentation of whole images of any size.

    An image is turned about its own centre and filled as at a fixed size, then padded to the largest of its
    batch and to a multiple of what the network takes, below and to the right, with its minimum. Padded pixels
    count nowhere in the loss; batch statistics see them while a network trains. A prediction is made of each
    image alone, padded to such a multiple and cropped back, so that it does not depend on the batch.
    """

    def batch(self, examples: NativeExamples, rows: Rows, draw: AugmentationSeed | None) -> NativeBatch:
        """Returns whole images with their targets, augmented if there is something to draw from."""
        batch = NativeBatch(examples, rows, lambda: (self._framed(examples, rows, draw),))
        if draw is not None:
            _ = batch.parts  # augmenting belongs to the making of a batch
        return batch

    def whole(self, model: nn.Module, examples: NativeExamples, row: int) -> Probabilities:
        """Returns the probabilities (S, H, W) of one whole image."""
        height, width = examples.size(row)
        whole = normalised(examples, row, self.base.intensity)
        window = whole.window(0, 0, (self.padded(height), self.padded(width)))
        return predict_windows(self.base, model, [window], examples.device)[0, :, :height, :width]

    def _framed(self, examples: NativeExamples, rows: Rows, draw: AugmentationSeed | None) -> ImageBatch:
        sizes = np.array([examples.size(row) for row in rows.tolist()])
        shape = self.padded(int(sizes[:, 0].max())), self.padded(int(sizes[:, 1].max()))
        images, targets = [], []
        for row in rows.tolist():
            image, target = self._case(examples, row, draw)
            right, below = shape[1] - image.shape[-1], shape[0] - image.shape[-2]
            images.append(placed(image, (0, 0), shape, fill=image.amin()))
            targets.append(nn.functional.pad(target, (0, right, 0, below), value=float(IGNORED)))
        return self.base.framed(torch.cat(images), torch.cat(targets))

    def _case(
        self, examples: NativeExamples, row: int, draw: AugmentationSeed | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        size = examples.size(row)
        image = window_of(self.base, examples, row, (0, 0), size, draw)[None]
        target = uploaded(labels_of(examples, row, (0, 0), size)[None], examples.device)
        if draw is None:
            return image, target
        return self.base.moved(image, target, examples.keys[row : row + 1], draw)


def window_of(
    base: ResizedSegmentation,
    examples: NativeExamples,
    row: int,
    at: tuple[int, int],
    shape: tuple[int, int],
    draw: AugmentationSeed | None,
) -> torch.Tensor:
    """Returns a window (C, *shape) of a case as the network sees it, by the statistics of the whole image.

    Noise, blur, gamma and objects are applied to the whole image before that. The window lies on the device.
    It may reach beyond the image, and has the image's lowest value there.
    """
    if draw is None or base.augmentation is None:
        window = normalised(examples, row, base.intensity).window(*at, shape)
        return uploaded(window, examples.device)
    raw = uploaded(np.array(examples.case(row)[0])[None], examples.device)
    degraded = degrade(raw, examples.keys[row : row + 1], base.augmentation, draw)
    values = normalise(degraded, base.intensity)[0]
    return placed(values[inside(*at, shape)], at, shape, fill=values.amin())


def predict_windows(
    base: ResizedSegmentation,
    model: nn.Module,
    windows: list[torch.Tensor],
    device: torch.device,
) -> npt.NDArray[np.float32]:
    """Returns probabilities (N, S, H, W) of windows (C, H, W) of equal size."""
    images = uploaded(torch.stack(windows), device)
    return base.predict(model, base.framed(images, images.new_zeros(len(images), 1, *images.shape[2:])))
