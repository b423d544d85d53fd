"""Randomness without state: every draw is a pure function of (seed, purpose, epoch, case).

A resumed training needs no generator state and equals the uninterrupted one bit for bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # draws need no torch
    from xferlab.training.learner import AugmentationSeed

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def case_keys(digests: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Returns 64 bits of each case digest (hex), shape (N,)."""
    return np.array([int(digest[:16], 16) for digest in digests], dtype=np.uint64)


def bits(keys: npt.NDArray[np.uint64], *, seed: int, purpose: str, epoch: int) -> npt.NDArray[np.uint64]:
    """Returns 64 bits for each case, shape (N,), independent between seeds, purposes and epochs."""
    stream = hashlib.sha256(f"{seed}\x1f{purpose}\x1f{epoch}".encode()).digest()
    with np.errstate(over="ignore"):
        mixed = _mix(keys + np.uint64(int.from_bytes(stream[:8], "big")))
        return _mix(mixed ^ np.uint64(int.from_bytes(stream[8:16], "big")))


def uniform(keys: npt.NDArray[np.uint64], *, seed: int, purpose: str, epoch: int) -> npt.NDArray[np.float64]:
    """Returns one number in [0, 1) for each case, shape (N,), independent between purposes and epochs."""
    drawn = bits(keys, seed=seed, purpose=purpose, epoch=epoch)
    return (drawn >> np.uint64(11)).astype(np.float64) * 2.0**-53


def between(
    keys: npt.NDArray[np.uint64], draw: AugmentationSeed, purpose: str, *, low: float, high: float
) -> npt.NDArray[np.float64]:
    """Returns one number in [low, high) for each case, shape (N,), drawn as `uniform` draws."""
    return low + (high - low) * uniform(keys, seed=draw.seed, purpose=purpose, epoch=draw.epoch)


def permutation(
    keys: npt.NDArray[np.uint64], *, seed: int, epoch: int, purpose: str = "order"
) -> npt.NDArray[np.intp]:
    """Returns the order in which an epoch visits the cases, shape (N,); blind to the order of `keys`."""
    return np.lexsort((keys, uniform(keys, seed=seed, purpose=purpose, epoch=epoch)))


def _mix(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's output function (Steele, Lea and Flood 2014)."""
    value = value + _GOLDEN
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
