"""Crop, padding and normalisation of an MRI volume, nearly as the published donor network was trained with.

Its code also sets what is darker than `BRAIN_SHARE` to 0, leaves out the slices at the ends that are dark all
over, and resizes before it normalises. Here pixels keep their values, all slices stay, and resizing is last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xferlab.data.pixels import to_uint8
from xferlab.errors import DataError

BRAIN_SHARE = 0.1
"""Pixels below this share of the volume's maximum do not belong to the brain."""
PERCENTILES = (10.0, 99.0)
Z_RANGE = (-2.0, 6.0)
"""Deviations from a channel's mean that become 0 and 255: one grey level is 0.03 deviations."""


@dataclass(frozen=True)
class Scale:
    """What a volume's slices are cropped to and normalised by.

    Attributes:
        box: Rows and columns of the brain: first row, end, first column, end.
        low: 10th percentile of all pixels of the cropped and padded volume.
        high: Their 99th percentile.
        mean: Of each channel after low..high became 0..1, `(3,)`.
        deviation: Standard deviation of each channel, `(3,)`.
    """

    box: tuple[int, int, int, int]
    low: float
    high: float
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


def scale_of(images: Sequence[NDArray[np.uint8]], *, where: Path) -> Scale:
    """Returns a volume's crop and normalisation.

    Args:
        images: The pixels of its used slices, `(H, W, 3)` each.
        where: Its folder, for messages.

    Raises:
        DataError: If their sizes differ.
    """
    if len({image.shape for image in images}) > 1:
        sizes = ", ".join(sorted({f"{image.shape[1]}x{image.shape[0]}" for image in images}))
        raise DataError.at(where, f"slices of one volume differ in size: {sizes}.")
    volume = np.stack(images)
    box = brain_box(volume)
    cropped = np.stack([crop_and_pad(image, box) for image in volume]).astype(np.float64)
    low, high = np.percentile(cropped, PERCENTILES)
    shares = np.clip((cropped - low) / max(high - low, 1.0), 0.0, 1.0)
    return Scale(box, float(low), float(high), shares.mean(axis=(0, 1, 2)), shares.std(axis=(0, 1, 2)))


def brain_box(volume: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Returns first row, end row, first column, end column of what is at least a tenth of the maximum.

    Args:
        volume: `(N, H, W, 3)`. An empty one gives its whole area.
    """
    brain = np.any(volume >= max(BRAIN_SHARE * float(volume.max()), 1.0), axis=(0, 3))
    if not brain.any():
        return 0, volume.shape[1], 0, volume.shape[2]
    rows, columns = np.flatnonzero(brain.any(axis=1)), np.flatnonzero(brain.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def crop_and_pad(pixels: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Returns the box of `(H, W)` or `(H, W, C)` pixels in the middle of a square of zeros."""
    cropped = pixels[box[0] : box[1], box[2] : box[3]]
    side = max(cropped.shape[:2])
    margins = [((side - length) // 2, side - length - (side - length) // 2) for length in cropped.shape[:2]]
    return np.pad(cropped, [*margins, *[(0, 0)] * (pixels.ndim - 2)])


def normalised(image: NDArray[np.uint8], scale: Scale) -> NDArray[np.uint8]:
    """Returns `(H, W, 3)` as z-scores of the volume's channels, -2..6 as 0..255; 0/0 gives z = 0."""
    shares = np.clip((image - scale.low) / max(scale.high - scale.low, 1.0), 0.0, 1.0)
    deviation = np.where(scale.deviation > 0, scale.deviation, 1.0)
    z = (shares - scale.mean) / deviation
    return to_uint8((z - Z_RANGE[0]) / (Z_RANGE[1] - Z_RANGE[0]))
