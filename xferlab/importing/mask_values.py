"""The values of masks, and whether they mark one structure with smooth edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xferlab.data.decode import Labels, read_labels
from xferlab.errors import DataError
from xferlab.parallel import for_each

LOOKED_AT = 200
"""Masks whose values are read, of each column."""
_WHITE = 240
"""Programs that smooth edges save a structure as 255; JPEG makes this a little less."""
_NEAR = 32
"""JPEG turns most values into others that are at most this far away: they say nothing about edges."""
_AROUND_PX = 5
"""Side of the square around a pixel in which a slope has lower and higher values."""
_ON_SLOPES = 0.8
"""Share of the pixels with values between that lie on slopes, at least, in masks with smooth edges."""


@dataclass(frozen=True)
class MaskValues:
    """What the masks of a column hold.

    Attributes:
        values: All values but 0, in ascending order.
        lossy: Whether a mask is a JPEG, which alters values.
        indexed: Whether a mask has a palette, whose indices have no order.
        num_between: Pixels whose values are neither near 0 nor near the highest of their mask.
        num_on_slopes: Those of them that have both lower and higher values around them.
    """

    values: tuple[int, ...] = ()
    lossy: bool = False
    indexed: bool = False
    num_between: int = 0
    num_on_slopes: int = 0

    @property
    def threshold(self) -> int | None:
        """Half of the highest value, where values look like one structure with smooth edges; else None.

        JPEG, resizing and antialiasing make such edges. Labels of several structures look otherwise: they
        fill areas, or all of them but one are small numbers.
        """
        *others, highest = self.values or (0,)
        half = highest // 2
        if not others or self.indexed:
            return None
        if self.lossy and highest > _NEAR:
            return half
        both_sides = min(others) <= half < max(others)
        on_slopes = self.num_on_slopes >= _ON_SLOPES * self.num_between
        return half if highest >= _WHITE and both_sides and on_slopes else None


def values_of(masks: Sequence[Path]) -> MaskValues:
    """Returns the values of up to 200 masks, evenly spread; those that cannot be read are left out."""
    step = -(-len(masks) // LOOKED_AT)
    found = [values for values in for_each(masks[::step], _of_file) if values is not None]
    return MaskValues(
        tuple(sorted({value for each in found for value in each.values})),
        any(each.lossy for each in found),
        any(each.indexed for each in found),
        sum(each.num_between for each in found),
        sum(each.num_on_slopes for each in found),
    )


def _of_file(mask: Path) -> MaskValues | None:
    try:
        labels = read_labels(mask)
    except DataError:  # `xferlab check` says what is wrong with it
        return None
    return _of_labels(labels)


def _of_labels(labels: Labels) -> MaskValues:
    pixels = labels.values
    values = tuple(value for value in np.unique(pixels).tolist() if value)
    if len(values) < 2 or labels.indexed:
        return MaskValues(values, labels.lossy, labels.indexed)
    from scipy.ndimage import maximum_filter, minimum_filter  # few masks need it

    near = values[-1] * _NEAR // 255
    between = (pixels > near) & (pixels < values[-1] - near)
    is_above = minimum_filter(pixels, size=_AROUND_PX) < pixels
    is_below = maximum_filter(pixels, size=_AROUND_PX) > pixels
    slopes = between & is_above & is_below
    return MaskValues(values, labels.lossy, num_between=int(between.sum()), num_on_slopes=int(slopes.sum()))
