"""Windows of images at their own size, cut out where and as the network wants them."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType

import numpy as np
import numpy.typing as npt
import torch

from xferlab.training.examples import IGNORED, NativeExamples
from xferlab.training.intensity import GREY_LEVELS, normalise


@dataclass(frozen=True)
class NormalisedImage:
    """A whole image as the network sees its grey levels, cut out lazily.

    Attributes:
        pixels: (C, H, W) uint8.
        curve: (C, 256) float32: what each grey level becomes.
        floor: The lowest value: what lies outside of the image.
    """

    pixels: npt.NDArray[np.uint8]
    curve: npt.NDArray[np.float32]
    floor: torch.Tensor

    @staticmethod
    def of(image: npt.NDArray[np.uint8], intensity: str) -> NormalisedImage:
        """Returns an image (C, H, W) under an intensity.

        Every intensity maps grey levels, given the image; the map is taken once, from the image as a whole.
        """
        values = normalise(torch.from_numpy(np.array(image))[None], intensity)[0]
        curve = np.zeros((len(image), GREY_LEVELS), np.float32)
        for channel, levels in enumerate(image):
            curve[channel, levels] = values[channel]
        return NormalisedImage(image, curve, values.amin())

    def window(self, top: int, left: int, shape: tuple[int, int]) -> torch.Tensor:
        """Returns a window (C, *shape) that may reach beyond the image on any side, float32 on the CPU."""
        channels = self.pixels[inside(top, left, shape)]
        cut = np.stack([curve[levels] for curve, levels in zip(self.curve, channels, strict=True)])
        return placed(torch.from_numpy(cut), (top, left), shape, fill=self.floor)


def normalised(examples: NativeExamples, row: int, intensity: str) -> NormalisedImage:
    """Returns a case under an intensity; reads the whole image the first time."""
    return examples.once(
        ("normalised", row, intensity), lambda: NormalisedImage.of(examples.case(row)[0], intensity)
    )


def labels_of(
    examples: NativeExamples, row: int, at: tuple[int, int], shape: tuple[int, int]
) -> torch.Tensor:
    """Returns a window (S, *shape) of a case's targets, float32 on the CPU, ignored outside of the image."""
    cut = examples.case(row)[1][inside(*at, shape)]
    return placed(torch.from_numpy(np.array(cut)), at, shape, fill=torch.tensor(IGNORED))


def inside(top: int, left: int, shape: tuple[int, int]) -> tuple[EllipsisType, slice, slice]:
    """Returns the index of that part of a window that lies in an image (..., H, W)."""
    rows = slice(max(top, 0), max(top + shape[0], 0))
    columns = slice(max(left, 0), max(left + shape[1], 0))
    return ..., rows, columns


def placed(
    cut: torch.Tensor, at: tuple[int, int], shape: tuple[int, int], *, fill: torch.Tensor
) -> torch.Tensor:
    """Returns a window (..., *shape), float32, whose first pixel is `at` a row and column of an image.

    Args:
        cut: The part of the image that lies in the window, as `inside` gives it.
        at: Row and column; below 0 they lie above and left of the image.
        shape: Rows and columns of the window.
        fill: The value, a tensor (), of what lies beyond the image; the host does not wait for it.
    """
    window = fill.float().expand(*cut.shape[:-2], *shape).clone()
    top, left = max(-at[0], 0), max(-at[1], 0)
    window[..., top : top + cut.shape[-2], left : left + cut.shape[-1]] = cut
    return window
