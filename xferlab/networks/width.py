"""Networks of fewer channels than the published ones."""

from __future__ import annotations

_MULTIPLE = 8
"""Of channels: kernels of processors and accelerators are fastest there."""


def scaled(channels: int, width: float) -> int:
    """Returns a number of channels times `width`, as the nearest multiple of 8 that is at least 8.

    A width of 1 leaves every number as it is.
    """
    return channels if width == 1.0 else max(_MULTIPLE, int(channels * width / _MULTIPLE + 0.5) * _MULTIPLE)
