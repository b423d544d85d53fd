"""Augmentation of how an image was acquired: objects, blur, noise, gamma.

It uses only additions and products of single pixels, and tables computed on the host, so that a case gets
the same bits in any batch.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from xferlab.training.augment import Augmentation
from xferlab.training.foreign import lay_on
from xferlab.training.learner import AugmentationSeed
from xferlab.training.noise import normal_pixels
from xferlab.training.randomness import between
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
