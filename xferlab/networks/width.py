"""Networks of fewer channels than the published ones."""

from __future__ import annotations

from collections.abc import Collection

_MULTIPLE = 8
"""Of channels: kernels of processors and accelerators are fastest there."""


def scaled(channels: int, width: float) -> int:
    """Returns a number of channels times `width`, as the nearest multiple of 8 that is at least 8.

    A width of 1 leaves every number as it is.
    """
    return channels if width == 1.0 else max(_MULTIPLE, int(channels * width / _MULTIPLE + 0.5) * _MULTIPLE)


def width_in(counts: Collection[tuple[int, int]]) -> float | None:
    """Returns a width of few digits that gives the channels of a network; None if there is none.

    Args:
        counts: Numbers of channels of the published network, each with what `scaled` made of it.
    """
    lowest = max((0.0 if own == _MULTIPLE else own - _MULTIPLE / 2) / full for full, own in counts)
    highest = min((own + _MULTIPLE / 2) / full for full, own in counts)
    widths = (round((lowest + highest) / 2, digits) for digits in range(1, 9))
    return next((w for w in widths if w > 0 and all(scaled(full, w) == own for full, own in counts)), None)
