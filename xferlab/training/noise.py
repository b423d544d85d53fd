"""Normal noise for every pixel of a batch, drawn on its device as a pure function of the case."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from xferlab.training.learner import AugmentationSeed
from xferlab.training.randomness import bits
from xferlab.training.upload import uploaded


def normal_pixels(
    keys: npt.NDArray[np.uint64],
    draw: AugmentationSeed,
    purpose: str,
    *,
    size: tuple[int, int],
    device: torch.device,
) -> torch.Tensor:
    """Returns standard normal noise for each pixel of each case, (N, 1, H, W) float32.

    A pixel is a function of draw, purpose, case, and its number row * W + column: the same bits in any batch
    and on any device. Two rounds of a 32-bit hash of the number choose one of 65,536 equally likely values,
    the quantiles of the normal distribution, so none is beyond 4.4 deviations.

    Args:
        keys: 64 bits of each case, (N,).
        draw: Seed and epoch.
        purpose: Keeps it apart from other draws.
        size: (H, W).
        device: Where to draw.
    """
    words = bits(keys, seed=draw.seed, purpose=purpose, epoch=draw.epoch)
    halves = np.stack([words >> np.uint64(32), words & np.uint64(0xFFFFFFFF)], axis=1)
    case = uploaded(halves.astype(np.uint32).view(np.int32), device)
    number = torch.arange(size[0] * size[1], dtype=torch.int32, device=device)
    mixed = _mix(_mix(number + case[:, :1]) ^ case[:, 1:])
    return _quantiles(device)[_shifted(mixed, 16)].reshape(len(keys), 1, *size)


def _mix(value: torch.Tensor) -> torch.Tensor:
    """MurmurHash3's finaliser (Appleby 2011) of int32 read as 32 bits; products wrap around."""
    value = (value ^ _shifted(value, 16)) * -0x7A143595  # 0x85EBCA6B
    value = (value ^ _shifted(value, 13)) * -0x3D4D51CB  # 0xC2B2AE35
    return value ^ _shifted(value, 16)


def _shifted(value: torch.Tensor, by: int) -> torch.Tensor:
    # A right shift of int32 fills with the sign; the mask takes that away.
    return (value >> by) & ((1 << (32 - by)) - 1)


@lru_cache(maxsize=4)
def _quantiles(device: torch.device) -> torch.Tensor:
    """65,536 values of the standard normal distribution, each in the middle of an equal share of it."""
    shares = (torch.arange(65_536, dtype=torch.float64) + 0.5) / 65_536
    quantiles: torch.Tensor = torch.special.ndtri(shares)
    return quantiles.float().to(device)
