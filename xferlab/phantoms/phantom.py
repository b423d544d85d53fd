"""What a phantom is, what its labels mean, and where its randomness comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from xferlab.errors import UsageError

PHANTOMS_VERSION = 1
"""Raised when any pixel changes: a data set of phantoms is identified by it, a seed, a count and a size."""

CHEST_LABELS: Mapping[str, int] = MappingProxyType(
    {"background": 0, "right_lung": 1, "left_lung": 2, "heart": 4, "clavicles": 8}
)
"""Bits, since heart and clavicles lie over the lungs in projection. The lungs are complete: as in hand-drawn
masks of chest X-rays, the part behind the heart, the ribs and the clavicles counts as lung."""

LUNG_VALUES: tuple[int, ...] = (1, 2, 5, 6, 9, 10, 13, 14)
"""Every value of a chest label map that is lung, for readers that want values instead of bits."""

BRAIN_LABELS: Mapping[str, int] = MappingProxyType({"background": 0, "lesion": 255})

MIN_SIZE_PX = 16


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


def generator(seed: int, *coordinates: str | int) -> np.random.Generator:
    """Make the stream that belongs to these coordinates; equal arguments give equal streams.

    Args:
        seed: Any integer.
        coordinates: What the stream is for.

    Returns:
        A PCG64 generator seeded with SHA-256 of the coordinates.
    """
    name = "/".join(str(part) for part in ("phantom", seed, *coordinates))
    entropy = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def check_request(what: str, *, index: int, size_px: int) -> None:
    """Refuse an index or a size that no phantom has.

    Raises:
        UsageError: If `index` is negative or `size_px` below 16.
    """
    if index < 0:
        raise UsageError(f"{what}: index {index} was asked for; indices start at 0.")
    if size_px < MIN_SIZE_PX:
        raise UsageError(f"{what}: size_px {size_px} was asked for; it has to be {MIN_SIZE_PX} or more.")
