"""Small pictures of images, without their borders, for all that compares images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE_PX = 128
"""The longer side of a thumbnail."""

_SHORTEST_PX, _LEAST_PX, _TRIMMED_PX, _LARGE_PX = 32, 24, 256, 16 * SIDE_PX
_FLAT_SHARE, _FLAT_LEVELS, _BORDER_LEVELS, _STEPS = 0.75, 2, 6, 16

Grey = NDArray[np.uint8]


def thumbnail(pixels: Grey) -> Grey:
    """Returns an image's thumbnail: its content without flat borders, the longer side 128 pixels.

    The shorter side has its share, but 32 pixels at least. Grey levels are replaced by their ranks, which
    gamma, window and brightness do not change. The thumbnail is black where there is (nearly) nothing to see:
    content that is narrower than 24 pixels, or three quarters of it within five grey levels.

    Args:
        pixels: `(H, W)`.
    """
    left, top, right, bottom = _content(pixels)
    width, height = right - left, bottom - top
    if min(width, height) < _LEAST_PX:
        return np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    by = SIDE_PX / max(width, height)
    size = max(round(width * by), _SHORTEST_PX), max(round(height * by), _SHORTEST_PX)
    content = Image.fromarray(np.ascontiguousarray(pixels[top:bottom, left:right]))
    # Four bytes for each pixel of a scan or a slide would be hundreds of megabytes.
    times = max(1, max(width, height) // _LARGE_PX)
    content = content.reduce((min(times, width // _LEAST_PX), min(times, height // _LEAST_PX))).convert("F")
    shown = content.resize(size, Image.Resampling.BICUBIC)
    levels = np.rint(np.clip(np.asarray(shown), 0, 255) * _STEPS).astype(np.int64)
    return _equalised(levels) if not _is_flat(levels) else np.zeros(levels.shape, np.uint8)


def is_black(thumbnail: Grey) -> bool:
    """Tells the thumbnail of an image that shows (nearly) nothing."""
    return not thumbnail.any()


def _is_flat(levels: NDArray[np.int64]) -> bool:
    """Whether three quarters of the pixels are within five grey levels."""
    counts = np.bincount(levels.ravel() // _STEPS, minlength=256)
    near = np.convolve(counts, np.ones(2 * _FLAT_LEVELS + 1, np.int64), "same")
    return bool(near.max() >= _FLAT_SHARE * levels.size)


def _equalised(levels: NDArray[np.int64]) -> Grey:
    """The mid-ranks of levels, 0 to 255; finer than the levels of most images."""
    counts = np.bincount(levels.ravel())
    ranks = (np.cumsum(counts) - counts / 2) / levels.size
    return (256 * ranks[levels]).astype(np.uint8)


def _content(pixels: Grey) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of an image without its flat borders."""
    small = Image.fromarray(pixels)
    small.thumbnail((_TRIMMED_PX, _TRIMMED_PX), Image.Resampling.BOX)
    shown = np.asarray(small)
    top, bottom = 0, shown.shape[0]
    left, right = 0, shown.shape[1]
    before = None
    # A row may be flat only once the columns beside the content are gone.
    while before != (before := (left, top, right, bottom)):
        top, bottom = _trimmed(shown[:, left:right], top, bottom)
        left, right = _trimmed(shown[top:bottom].T, left, right)
    across, down = pixels.shape[1] / shown.shape[1], pixels.shape[0] / shown.shape[0]
    return round(left * across), round(top * down), round(right * across), round(bottom * down)


def _trimmed(lines: Grey, start: int, stop: int) -> tuple[int, int]:
    """The first line that is not flat from either end, and one after the last; twice the start if none is."""
    if start == stop or not lines.shape[1]:
        return start, start
    low, high = np.percentile(lines[start:stop], (2, 98), axis=1, method="nearest").astype(np.int64)
    shown = np.flatnonzero(high - low > _BORDER_LEVELS)
    return (start + int(shown[0]), start + int(shown[-1]) + 1) if len(shown) else (start, start)
