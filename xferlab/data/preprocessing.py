"""What a section does to the pixels of its files before they are resized, and so part of every digest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xferlab.cohort import STEPS
from xferlab.data.pixels import ROWS_AT_ONCE, Levels, mapped, to_uint8
from xferlab.data.sources.config import SourceConfig

STEPS_VERSION = 1
"""Raised when a step gives other pixels."""
NEARLY_BLACK = 8
"""JPEG turns black into values up to this."""


def recipe(config: SourceConfig) -> dict[str, object]:
    """Returns what a section's steps add to the digest of a case; nothing where there is no step."""
    steps = config.model_dump(include=set(STEPS), exclude_defaults=True)
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


def altered(
    image: NDArray[np.uint8], config: SourceConfig, levels: Levels | None = None
) -> NDArray[np.uint8]:
    """Returns an image after the steps that only change its grey levels: degrade, equalise, gamma.

    Args:
        image: `(H, W)` or `(H, W, C)`.
        config: Of its section.
        levels: Where the file has more than 8 bits and is equalised: what `image` was made from.
    """
    values, valid = (image, None) if levels is None else (levels.values, levels.valid)
    if config.degrade_to:
        values = degraded(values, config.degrade_to)
    if config.equalise:
        return equalised(values, valid, gamma=config.gamma or 1.0)
    return with_gamma(values, config.gamma) if config.gamma else values


def degraded(image: NDArray[Any], side_px: int) -> NDArray[Any]:
    """Returns an image (H, W) or (H, W, C) as one of fewer pixels would look: shrunk and enlarged again.

    Both by antialiased bilinear interpolation, in float32 where the image is not uint8. An image whose longer
    side has no more than `side_px` pixels stays as it is.
    """
    height, width = image.shape[:2]
    longer = max(height, width)
    if longer <= side_px:
        return image
    small = [max(1, round(side * side_px / longer)) for side in (width, height)]
    whole = Image.fromarray(image if image.dtype == np.uint8 else image.astype(np.float32))
    shrunk = whole.resize((small[0], small[1]), Image.Resampling.BILINEAR)
    return np.asarray(shrunk.resize((width, height), Image.Resampling.BILINEAR))


def equalised(
    values: NDArray[Any], valid: NDArray[np.bool_] | None = None, *, gamma: float = 1.0
) -> NDArray[np.uint8]:
    """Returns an image after equalisation by its own histogram, then gamma, rounded once.

    With C(v) of N pixels at most v, and D of the darkest value, v becomes 255 ((C(v) - D) / (N - D))^gamma:
    the darkest value becomes 0, the brightest 255, and an image of one value 0. The rule is that of the
    public code of Oh, Park and Ye (2020), doi:10.1109/TMI.2020.2993291.

    Args:
        values: `(H, W)`, finite, integer or floating.
        valid: Pixels that are counted; None, or nowhere true, counts all. Others become what a counted one of
            their value would.
        gamma: Exponent; less than 1 brightens.
    """
    if valid is not None and not valid.any():
        valid = None
    if values.dtype in (np.uint8, np.uint16):
        size = np.iinfo(values.dtype).max + 1
        counts = np.zeros(size, np.int64)
        for strip in _counted(values, valid):
            counts += np.bincount(strip, minlength=size)
        return mapped(values, _curve(counts, gamma).__getitem__)
    levels, counts = np.unique(values if valid is None else values[valid], return_counts=True)
    tones = np.append(np.uint8(0), _curve(counts, gamma))  # below the darkest: 0
    return mapped(values, lambda strip: tones[np.searchsorted(levels, strip, side="right")])


def with_gamma(image: NDArray[np.uint8], gamma: float) -> NDArray[np.uint8]:
    """Returns 255 (v / 255)^gamma of each grey level v of an image, rounded."""
    return mapped(image, to_uint8((np.arange(256) / 255.0) ** gamma).__getitem__)


def _counted(values: NDArray[Any], valid: NDArray[np.bool_] | None) -> Iterator[NDArray[Any]]:
    """Yields the valid values, a few rows at once."""
    for row in range(0, len(values), ROWS_AT_ONCE):
        rows = slice(row, row + ROWS_AT_ONCE)
        yield values[rows].ravel() if valid is None else values[rows][valid[rows]]


def _curve(counts: NDArray[np.integer[Any]], gamma: float) -> NDArray[np.uint8]:
    """Returns what each value becomes, from how many pixels have it, the darkest first."""
    darkest = counts[counts > 0][0]
    at_most = np.maximum(np.cumsum(counts) - darkest, 0)
    return to_uint8((at_most / max(int(at_most[-1]), 1)) ** gamma)
