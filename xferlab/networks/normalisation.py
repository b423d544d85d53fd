"""How images are normalised for weights that were trained on images so normalised."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

_WHITE = 255.0


@dataclass(frozen=True)
class Normalisation:
    """From grey levels to what a network takes: scaled to 0..`white`, minus a mean, over a deviation.

    Attributes:
        white: What 255 is scaled to: 1 or 255.
        mean: Of each channel, on that scale; red, green, blue.
        deviation: Of each channel, on that scale.
    """

    white: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def apply(self, images: Tensor) -> Tensor:
        """Returns float32 images `(N, C, H, W)`, C as in `mean`, of images in 0..255.

        A single channel `(N, 1, H, W)` is repeated, and each copy normalised as its channel.
        """
        scaled = images.float() / (_WHITE / self.white)
        mean, deviation = (
            torch.tensor(values).to(images.device, non_blocking=True).reshape(1, -1, 1, 1)
            for values in (self.mean, self.deviation)
        )
        return (scaled - mean) / deviation

    def grey(self) -> Normalisation:
        """Returns that of a single channel: the mean of the means, and of the deviations.

        What it leaves of each channel's own mean and deviation, `inherit.fold_channels` makes up for.
        """
        return Normalisation(self.white, (fmean(self.mean),), (fmean(self.deviation),))
