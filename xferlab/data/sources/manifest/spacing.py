"""Pixel spacing that a table gives for files that do not tell their own, such as PNG and JPEG."""

from __future__ import annotations

import math

from xferlab.errors import DataError

SPACING = "spacing_mm"
"""The column: millimetres from pixel to pixel; one number, or two as `row x column`."""
_TOLERANCE = 0.01
"""Relative; headers and papers round."""

Spacing = tuple[float, float]
"""Distance between rows and between columns in mm."""


def spacing_of(cell: str) -> Spacing | None:
    """Returns the spacing that a cell of the column gives; None for an empty one.

    Raises:
        ValueError: It is neither one positive number nor two as `row x column`; says what is accepted.
    """
    if not cell:
        return None
    try:
        steps = [float(part) for part in cell.split("x")]
    except ValueError:
        steps = []
    if len(steps) not in (1, 2) or not all(0 < step < math.inf for step in steps):
        raise ValueError(
            f"{cell!r} is no pixel spacing; accepted is one positive number, the millimetres from pixel to "
            "pixel, such as 0.175, or two as `row x column`, such as 0.2 x 0.175"
        )
    return steps[0], steps[-1]


def reconciled(own: Spacing | None, given: Spacing | None, *, where: str, name: str) -> Spacing | None:
    """Returns the spacing of an image: what its file tells, else what the table gives.

    Args:
        own: Of the file.
        given: Of the table.
        where: The row, for the message.
        name: Of the image.

    Raises:
        DataError: They differ by more than 1 %.
    """
    if own is None or given is None:
        return own or given
    if not all(math.isclose(*steps, rel_tol=_TOLERANCE) for steps in zip(own, given, strict=True)):
        raise DataError.at(
            where,
            f"{SPACING} is {_shown(given)}, but the header of {name} says {_shown(own)}. Empty the cell, "
            "which takes the header's, or correct the header.",
            kind="spacings that contradict the file",
        )
    return own


def _shown(spacing: Spacing) -> str:
    return f"{spacing[0]:g} x {spacing[1]:g} mm"
