"""What a section does to the pixels of its files before they are resized, and so part of every digest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xferlab.data.sources.config import SourceConfig

STEPS_VERSION = 1
"""Raised when a step gives other pixels."""
NEARLY_BLACK = 8
"""JPEG turns black into values up to this."""


def recipe(config: SourceConfig) -> dict[str, object]:
    """Returns what a section's steps add to the digest of a case; nothing where there is no step."""
    steps = config.model_dump(include={"crop_black_band", "degrade_to"}, exclude_defaults=True)
    return {"steps": {**steps, "version": STEPS_VERSION}} if steps else {}


def height_without_band(image: NDArray[np.uint8]) -> int:
    """Returns how many rows of a grey image (H, W) lie above the black band at its bottom; H without one.

    The band begins in the lower half, at the first row whose centre is black (0) and below which no centre is
    brighter than what JPEG makes of black. The rule is that of the public code of Oh, Park and Ye (2020),
    doi:10.1109/TMI.2020.2993291, which takes any black pixel there as the band's beginning.
    """
    height, width = map(int, image.shape)
    centre = image[:, width // 2]
    bright = np.flatnonzero(centre > NEARLY_BLACK)
    first = max(-(-height // 2), int(bright[-1]) + 1 if len(bright) else 0)
    black = np.flatnonzero(centre[first:] == 0)
    return first + int(black[0]) if len(black) else height


def cut_by_band(name: str, inside: NDArray[np.bool_], height: int) -> str:
    """Returns what somebody should look at where a structure reaches into the band; empty where none does.

    Args:
        name: Of the structure.
        inside: Where it is, (H, W), with the band.
        height: How many rows stay.
    """
    cut = int(inside[height:].sum())
    if not cut:
        return ""
    whole = int(inside.sum())
    return (
        f"crop_black_band cuts {cut:,} of {whole:,} px of the mask of {name} away: they lie in the black"
        f" band that begins at row {height}. See whether the mask or the band is wrong."
    )


def degraded(image: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Returns an image (H, W) or (H, W, C) as one of fewer pixels would look: shrunk and enlarged again.

    Both by antialiased bilinear interpolation. An image whose longer side has no more than `side_px` pixels
    stays as it is.
    """
    height, width = image.shape[:2]
    longer = max(height, width)
    if longer <= side_px:
        return image
    small = [max(1, round(side * side_px / longer)) for side in (width, height)]
    shrunk = Image.fromarray(image).resize((small[0], small[1]), Image.Resampling.BILINEAR)
    return np.asarray(shrunk.resize((width, height), Image.Resampling.BILINEAR))
