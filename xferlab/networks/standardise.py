"""Images less a mean, divided by a deviation: numbers of the training images that the weights hold."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import fmean
from typing import Literal

import torch
from torch import Tensor, nn

STANDARDISE = "standardise"
"""Name of the part; its buffers are the keys that begin with this and a dot."""

Mode = Literal["training", "code"]
"""`training`: one mean and one deviation for all images. `code`: in training each image by its own."""

SMALLEST_DEVIATION = 1 / 255
"""One grey level of images in 0..1, so that a blank image gives zeros."""


class Standardise(nn.Module):
    """Standardises images by buffers `mean` and `deviation`, scalars in float32 that `learn` sets.

    - `training`: mean and population deviation of all pixels of all training images, for every image
      (arias-garzon2021, eq. 2).
    - `code`: in training mode, each image by its own mean and deviation; in evaluation mode, by the means of
      the training images' means and deviations. So do the authors of arias-garzon2021 in their code.

    A deviation is at least `SMALLEST_DEVIATION`.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mode: Mode = "training"):
        """Takes the mode; until `learn` is called, images stay as they are in evaluation mode."""
        super().__init__()
        self.mode = mode
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        """Returns standardised images; images are `(N, C, H, W)`, float32."""
        if self.mode == "code" and self.training:
            deviation, mean = torch.std_mean(images, dim=(1, 2, 3), correction=0, keepdim=True)
            return (images - mean) / deviation.clamp_min(SMALLEST_DEVIATION)
        return (images - self.mean) / self.deviation

    @torch.no_grad()
    def learn(self, batches: Iterable[Tensor]) -> None:
        """Sets the buffers from the training images.

        Sums are exact, so neither the order of the images nor their division into batches matters.

        Args:
            batches: Of at least one image in all, `(N, C, H, W)`; of several channels, all count alike.
        """
        means, deviations, sizes = list[float](), list[float](), list[int]()
        for image in (image for batch in batches for image in batch):
            own = torch.std_mean(image.double(), correction=0)
            deviations.append(float(own[0]))
            means.append(float(own[1]))
            sizes.append(image.numel())
        if self.mode == "code":
            mean, deviation = fmean(means), fmean(deviations)
        else:
            mean, deviation = _of_all_pixels(means, deviations, sizes)
        self.mean.fill_(mean)
        self.deviation.fill_(max(deviation, SMALLEST_DEVIATION))


def _of_all_pixels(means: list[float], deviations: list[float], sizes: list[int]) -> tuple[float, float]:
    """Returns mean and deviation of all pixels, from those of each image and its number of pixels."""
    mean = fmean(means, sizes)
    squares = [deviation**2 + (own - mean) ** 2 for own, deviation in zip(means, deviations, strict=True)]
    return mean, math.sqrt(fmean(squares, sizes))
