"""Augmentation of how an image was acquired: objects, blur, noise, gamma.

It uses only additions and products of single pixels, and tables computed on the host, so that a case gets
the same bits in any batch.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from xferlab.training.augment import Augmentation
from xferlab.training.foreign import lay_on
from xferlab.training.learner import AugmentationSeed
from xferlab.training.randomness import between, bits
from xferlab.training.upload import uploaded

WHITE = 255.0

BLUR_REACH = 3.0
"""Deviations at which a blur is cut off."""


def degrade(
    images: torch.Tensor, keys: npt.NDArray[np.uint64], options: Augmentation, draw: AugmentationSeed
) -> torch.Tensor:
    """Returns images as if they had been acquired differently; targets stay as they are.

    Args:
        images: (N, C, H, W) uint8.
        keys: 64 bits of each case, (N,).
        options: Its objects, blur, noise and gamma are used.
        draw: Seed and epoch.

    Returns:
        Grey levels 0..255, (N, C, H, W): float32, whole numbers but for gamma, or uint8 if nothing is on.
    """
    values = images
    if options.objects is not None:
        values = lay_on(values.float(), keys, draw, most=options.objects)
    if options.blur is not None:
        sigmas = between(keys, draw, "blur", low=0.0, high=options.blur)
        values = blur(values.float(), sigmas, reach=math.ceil(BLUR_REACH * options.blur))
    if options.noise is not None:
        values = _noisy(values.float(), keys, draw, most=options.noise)
    if values.is_floating_point():
        values = values.round().clamp(0.0, WHITE)
    if options.gamma is not None:
        low, high = (math.log(bound) for bound in options.gamma)
        values = gamma(values, np.exp(between(keys, draw, "gamma", low=low, high=high)))
    return values


def blur(values: torch.Tensor, sigmas: npt.NDArray[np.float64], *, reach: int) -> torch.Tensor:
    """Returns images (N, C, H, W) float32 blurred by Gaussians of deviations `sigmas` (N,) in pixels.

    Kernels are cut off at three deviations, or at `reach` pixels if that is nearer, and sum to 1; edges
    repeat. Deviation 0 leaves an image as it is.
    """
    taps = uploaded(_gaussians(sigmas, reach), values.device)
    for dim in (2, 3):
        values = _convolved(values, taps, dim)
    return values


def _gaussians(sigmas: npt.NDArray[np.float64], reach: int) -> npt.NDArray[np.float32]:
    """Half of each kernel, centre first, (N, reach + 1)."""
    at = np.arange(reach + 1) / np.maximum(sigmas, 1e-3)[:, None]
    half = np.where(at <= BLUR_REACH, np.exp(-0.5 * at**2), 0.0)
    return np.asarray(half / (2.0 * half.sum(axis=1, keepdims=True) - half[:, :1]), np.float32)


def _convolved(values: torch.Tensor, taps: torch.Tensor, dim: int) -> torch.Tensor:
    # Shifted sums and no convolution: each image has its own kernel, and pixels keep their order of sums.
    reach, size = taps.shape[1] - 1, values.shape[dim]
    margin = (0, 0, reach, reach) if dim == 2 else (reach, reach, 0, 0)
    padded = F.pad(values, margin, mode="replicate")
    total = values * taps[:, 0].reshape(-1, 1, 1, 1)
    for by in range(1, reach + 1):
        both = padded.narrow(dim, reach - by, size) + padded.narrow(dim, reach + by, size)
        total += both * taps[:, by].reshape(-1, 1, 1, 1)
    return total


def _noisy(
    values: torch.Tensor, keys: npt.NDArray[np.uint64], draw: AugmentationSeed, *, most: float
) -> torch.Tensor:
    deviations = between(keys, draw, "noise", low=0.0, high=most * WHITE).astype(np.float32)
    height, width = values.shape[-2:]
    noise = normal_pixels(keys, draw, "noise pixels", size=(height, width), device=values.device)
    return values + noise * uploaded(deviations, values.device).reshape(-1, 1, 1, 1)


def gamma(levels: torch.Tensor, exponents: npt.NDArray[np.float64]) -> torch.Tensor:
    """Returns `255 (v / 255) ** exponent` of whole grey levels v, 0..255; black and white stay.

    Args:
        levels: (N, C, H, W), of any type.
        exponents: (N,) above 0; below 1 brightens.

    Returns:
        (N, C, H, W) float32.
    """
    shares = np.arange(WHITE + 1) / WHITE
    curves = uploaded((WHITE * shares ** exponents[:, None]).astype(np.float32), levels.device)
    return curves.gather(1, levels.long().flatten(1)).reshape(levels.shape)


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
