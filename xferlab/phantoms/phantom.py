"""What a phantom is, and what its labels mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PHANTOMS_VERSION = 1
"""Raised when any pixel changes: a data set of phantoms is identified by it, a seed, a count and a size."""

CHEST_LABELS: Mapping[str, int] = {
    "background": 0,
    "right_lung": 1,
    "left_lung": 2,
    "heart": 4,
    "clavicles": 8,
}
"""Bits, since heart and clavicles lie over the lungs in projection. The lungs are complete: as in hand-drawn
masks of chest X-rays, the part behind the heart, the ribs and the clavicles counts as lung."""

BRAIN_LABELS: Mapping[str, int] = {"background": 0, "lesion": 255}


@dataclass(frozen=True)
class Phantom:
    """One image with its ground truth.

    Attributes:
        image: uint8, `(H, W)` or `(H, W, 3)`.
        labels: uint8, `(H, W)`, values as `CHEST_LABELS` (bits) or `BRAIN_LABELS`.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def chest_mask(labels: NDArray[np.uint8], *names: str) -> NDArray[np.bool_]:
    """Say where any of the named structures of a chest label map lies.

    Args:
        labels: `(H, W)` uint8, bits as in `CHEST_LABELS`.
        names: Structures; both lungs if none is named.

    Returns:
        `(H, W)` bool.
    """
    bits = sum({CHEST_LABELS[name] for name in names or ("right_lung", "left_lung")})
    return np.asarray((labels & bits) > 0)
