"""Whether an image kept its contrast when its values became 8 bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW_LEVELS = 32
"""Fewer grey levels than these show bands; the poorest of ordinary 8-bit radiographs have some hundred."""
_LOST = 4
"""How many stored values must share a grey level on average before they count as lost."""
_CLIPPED, _CLIPPED_BEFORE = 0.9, 0.5


def lost_contrast(
    stored: NDArray[Any], shown: NDArray[np.uint8], *, valid: NDArray[np.bool_] | None, cause: str
) -> tuple[str, ...]:
    """Returns a remark if few of an image's values can still be told apart, or nearly all are black or white.

    Args:
        stored: `(H, W)` integers as the file has them.
        shown: The same image in 8 bits.
        valid: Pixels that are no padding; default all.
        cause: What made it 8 bit, as the subject of a sentence, and what to do about it, divided by `|`.
    """
    if valid is not None and valid.any():
        stored, shown = stored[valid], shown[valid]
    counts = np.bincount(shown.ravel(), minlength=256)
    num_shown, clipped = int((counts > 0).sum()), (counts[0] + counts[255]) / shown.size
    if num_shown >= FEW_LEVELS and clipped <= _CLIPPED:
        return ()
    values, stored_counts = np.unique(stored, return_counts=True)
    subject, _, remedy = cause.partition("|")
    if num_shown < FEW_LEVELS and len(values) >= _LOST * num_shown:
        lost = f"leaves {num_shown} of 256 grey levels to {len(values):,} different values"
        return (f"{subject} {lost}. {remedy}",)
    if clipped > _CLIPPED and (stored_counts[0] + stored_counts[-1]) / shown.size < _CLIPPED_BEFORE:
        return (f"{subject} makes {clipped:.0%} of the pixels black or white. {remedy}",)
    return ()
