"""Windows of images at their own size, cut out where and as the network wants them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from xferlab.training.examples import IGNORED, NativeExamples
from xferlab.training.intensity import GREY_LEVELS, normalise


@dataclass(frozen=True)
class NormalisedImage:
    """A whole image as the network sees its grey levels, cut out lazily.

    Attributes:
        pixels: (C, H, W), uint8 with a curve and float32 without.
        curve: (C, 256) float32: what each grey level becomes; None where the pixels are that already.
        floor: The lowest value: what lies outside of the image.
    """

    pixels: npt.NDArray[Any]
    curve: npt.NDArray[np.float32] | None
    floor: float

    @staticmethod
    def of(image: npt.NDArray[np.uint8], intensity: str) -> NormalisedImage:
        """Returns an image (C, H, W) under an intensity.

        Every intensity maps grey levels, given the image; the map is taken once, from the image as a whole.
        """
        values = normalise(torch.from_numpy(np.array(image))[None], intensity)[0].numpy()
        curve = np.zeros((len(image), GREY_LEVELS), np.float32)
        for channel, levels in enumerate(image):
            curve[channel, levels] = values[channel]
        return NormalisedImage(image, curve, float(values.min()))

    def window(self, top: int, left: int, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
        """Returns a window (C, *shape) that may reach beyond the image on any side."""
        cut = _inside(self.pixels, top, left, shape)
        if self.curve is not None:
            cut = np.stack([self.curve[channel][levels] for channel, levels in enumerate(cut)])
        return _placed(cut, (top, left), shape, fill=self.floor)


def normalised(examples: NativeExamples, row: int, intensity: str) -> NormalisedImage:
    """Returns a case under an intensity; reads the whole image the first time."""
    return examples.once(
        ("normalised", row, intensity), lambda: NormalisedImage.of(examples.case(row)[0], intensity)
    )


def labels_of(
    examples: NativeExamples, row: int, at: tuple[int, int], shape: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Returns a window (S, *shape) of a case's targets, float32, ignored outside of the image."""
    cut = _inside(examples.case(row)[1], *at, shape)
    return _placed(cut, at, shape, fill=IGNORED)


def _inside(pixels: npt.NDArray[Any], top: int, left: int, shape: tuple[int, int]) -> npt.NDArray[Any]:
    rows = slice(max(top, 0), max(top + shape[0], 0))
    columns = slice(max(left, 0), max(left + shape[1], 0))
    return pixels[..., rows, columns]


def _placed(
    cut: npt.NDArray[Any], at: tuple[int, int], shape: tuple[int, int], *, fill: float
) -> npt.NDArray[np.float32]:
    window = np.full((*cut.shape[:-2], *shape), fill, np.float32)
    top, left = max(-at[0], 0), max(-at[1], 0)
    window[..., top : top + cut.shape[-2], left : left + cut.shape[-1]] = cut
    return window
