"""Cases at the size that they have, cut out where and as the network wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from xferlab.tasks.segmentation.resized import IGNORED, STRUCTURE
from xferlab.tasks.segmentation.tiles import Anchors
from xferlab.training.batches import Rows
from xferlab.training.intensity import GREY_LEVELS, normalise
from xferlab.training.randomness import case_keys


class NativeImages(Protocol):
    """Cases of any size, such as a table of the image cache."""

    @property
    def spacing_mm(self) -> npt.NDArray[np.float32]:
        """(N, 2): distance of rows and of columns; NaN where unknown."""
        ...

    def image(self, row: int) -> npt.NDArray[np.uint8]:
        """Returns the image of a row, (C, H, W)."""
        ...

    def target(self, row: int) -> npt.NDArray[np.uint8]:
        """Returns the target of a row, (H, W): 0 background, 255 structure, 127 ignored."""
        ...


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


class NativeExamples:
    """Cases of any size; nothing of them is held but a grey-level curve and a number for each row of pixels.

    Attributes:
        keys: 64 bits of each digest, (N,).
        spacing_mm: (N, 2) native row and column spacing, NaN where unknown.
        device: Where batches go.
    """

    def __init__(self, digests: Sequence[str], images: NativeImages, *, rows: Rows, device: torch.device):
        """Takes `rows` of the images; `digests` names those rows, in order."""
        self.keys = case_keys(digests)
        self.spacing_mm = images.spacing_mm[rows]
        self.device = device
        self._images, self._rows = images, rows
        self._toned: dict[tuple[int, str], NormalisedImage] = {}
        self._anchors: dict[int, Anchors] = {}

    def __len__(self) -> int:
        """Number of cases."""
        return len(self._rows)

    def case(self, row: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Returns the image (C, H, W) and target (H, W) of one case, uint8 views."""
        number = int(self._rows[row])
        return self._images.image(number), self._images.target(number)

    def size(self, row: int) -> tuple[int, int]:
        """Returns height and width of one case."""
        height, width = self.case(row)[1].shape
        return height, width

    def toned(self, row: int, intensity: str) -> NormalisedImage:
        """Returns a case under an intensity; reads the whole image the first time."""
        key = (row, intensity)
        if key not in self._toned:
            self._toned[key] = NormalisedImage.of(self.case(row)[0], intensity)
        return self._toned[key]

    def anchors(self, row: int) -> Anchors:
        """Returns the structure's pixels of a case; reads the whole target the first time."""
        if row not in self._anchors:
            self._anchors[row] = Anchors(self.case(row)[1], structure=STRUCTURE)
        return self._anchors[row]


def labels_of(
    examples: NativeExamples, row: int, at: tuple[int, int], shape: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Returns a window of a case's target, float32, ignored outside of the image."""
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
