"""Masks from outlines and run lengths, as COCO has them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
"""Rows and columns."""
_FIRST_CHARACTER, _BITS, _SIGN, _MORE = 48, 5, 0x10, 0x20
_FIRST_DIFFERENCE = 3
"""From this run on, compressed runs are differences to the one before the last."""


def mask_of(outline: Any, size: Size) -> NDArray[np.bool_]:
    """Returns the pixels of one annotation, `(H, W)`: of several polygons, those that lie in any of them.

    Args:
        outline: Polygons (lists of x, y, x, y, ...) or run lengths (`counts` and `size`).
        size: Of the image.

    Raises:
        ValueError: It is neither, or does not fit the size.
    """
    if isinstance(outline, dict):
        return _of_runs(outline, size)
    if not isinstance(outline, list) or not outline:
        raise ValueError("has no outline")
    mask = np.zeros(size, bool)
    for points in outline:
        mask |= filled(points, size)
    return mask


def filled(points: Sequence[float], size: Size) -> NDArray[np.bool_]:
    """Returns the pixels whose centres lie inside a polygon, by the even-odd rule.

    The centre of the first pixel is (0.5, 0.5). Pillow would draw all pixels that the outline touches, too:
    a tenth more, for shapes of 30 pixels.

    Raises:
        ValueError: These are not the coordinates of three points or more.
    """
    if not isinstance(points, list) or len(points) % 2 or len(points) < 2 * 3:
        raise ValueError("has an outline that is not x and y of three points or more")
    corners = np.asarray(points, np.float64).reshape(-1, 2)
    if not np.isfinite(corners).all():
        raise ValueError("has an outline with coordinates that are no numbers")
    rows, columns = size
    changes = np.zeros((rows, columns + 1), bool)
    for (x, y), (next_x, next_y) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        low, high = sorted((y, next_y))
        crossed = np.arange(max(0, math.ceil(low - 0.5)), min(rows, math.ceil(high - 0.5)))
        if len(crossed):
            at = x + (crossed + 0.5 - y) * (next_x - x) / (next_y - y)
            changes[crossed, np.clip(np.ceil(at - 0.5), 0, columns).astype(np.int64)] ^= True
    return np.logical_xor.accumulate(changes, axis=1)[:, :columns]


def _of_runs(outline: dict[str, Any], size: Size) -> NDArray[np.bool_]:
    """Returns the mask of run lengths: down the columns, beginning with background."""
    counts, runs_size = outline.get("counts"), outline.get("size")
    if runs_size != list(size):
        raise ValueError(f"has run lengths for the size {runs_size}, and its image has {list(size)}")
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(isinstance(run, int) and run >= 0 for run in runs):
        raise ValueError("has run lengths that are no counts of pixels")
    if sum(runs) != math.prod(size):
        raise ValueError(f"has run lengths of {sum(runs)} pixels, and its image has {math.prod(size)}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(size, order="F")


def _unpacked(text: str) -> list[int]:
    """Returns the runs of a compressed text: groups of five bits, the lowest first, with a sign.

    Raises:
        ValueError: The text ends within a run, or has another character.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - _FIRST_CHARACTER
        if not 0 <= bits < 2 * _MORE or shift > 12 * _BITS:
            raise ValueError("has run lengths that are packed in another way")
        value |= (bits & (_MORE - 1)) << shift
        shift += _BITS
        if bits & _MORE:
            continue
        if bits & _SIGN:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) >= _FIRST_DIFFERENCE else 0))
        value = shift = 0
    if shift:
        raise ValueError("has run lengths that end too early")
    return runs
