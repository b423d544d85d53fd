"""Augmentation of whole batches on their device: its options, rotation, scale and mirror."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from xferlab.training.learner import AugmentationSeed
from xferlab.training.randomness import between, uniform
from xferlab.training.upload import uploaded


@dataclass(frozen=True)
class Augmentation:
    """What varies between epochs beside the rotation; None leaves a thing as it is.

    Every draw is a function of seed, epoch and case. Objects, blur, noise and gamma are applied in this order
    before the image is normalised. Scale and mirror follow, in one resampling with the rotation; they move
    targets, too.

    Attributes:
        objects: Largest number of bright lines and discs drawn on an image; 0 to that many, equally likely.
        blur: Largest deviation of a Gaussian blur in pixels of the network's image; uniform from 0.
        noise: Largest deviation of Gaussian noise as a share of the grey range; uniform from 0.
        gamma: (low, high) exponent of grey levels as shares of white, above 0; its logarithm is uniform.
        scale: (low, high) magnification, above 0; uniform. Borders are filled as in the rotation.
        flip: Share of images mirrored left to right.
    """

    objects: int | None = None
    blur: float | None = None
    noise: float | None = None
    gamma: tuple[float, float] | None = None
    scale: tuple[float, float] | None = None
    flip: float | None = None


def move(
    images: torch.Tensor,
    targets: torch.Tensor,
    keys: npt.NDArray[np.uint64],
    draw: AugmentationSeed,
    *,
    rotation: tuple[float, float] | None,
    options: Augmentation,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns images (N, C, H, W) and targets (N, S, H, W), both float, turned, scaled and mirrored.

    Args:
        images: As in `rotate`.
        targets: As in `rotate`.
        keys: 64 bits of each case, (N,).
        draw: Seed and epoch.
        rotation: (degrees, probability), or None for none.
        options: Its scale and flip are used.
    """
    seed, epoch = draw.seed, draw.epoch
    angles, scales = np.zeros(len(keys)), None
    if rotation is not None:
        degrees, probability = rotation
        angles = rotation_angles(keys, degrees=degrees, probability=probability, seed=seed, epoch=epoch)
    if options.flip is not None:
        chosen = uniform(keys, seed=seed, purpose="flip", epoch=epoch) < options.flip
        images, targets = mirror(images, targets, chosen)
    if options.scale is not None:
        scales = between(keys, draw, "scale", low=options.scale[0], high=options.scale[1])
    return rotate(images, targets, angles, scales)


def rotation_angles(
    keys: npt.NDArray[np.uint64], *, degrees: float, probability: float, seed: int, epoch: int
) -> npt.NDArray[np.float64]:
    """Returns one angle for each case in degrees, shape (N,); 0 for those that are left as they are.

    Uniform in ±degrees with the given probability (vidal2021, section 3.3: ±10, 0.75).
    """
    chosen = uniform(keys, seed=seed, purpose="rotate", epoch=epoch) < probability
    angles = (2.0 * uniform(keys, seed=seed, purpose="angle", epoch=epoch) - 1.0) * degrees
    return np.where(chosen, angles, 0.0)


def rotate(
    images: torch.Tensor,
    targets: torch.Tensor,
    angles: npt.NDArray[np.float64],
    scales: npt.NDArray[np.float64] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns images and targets rotated about their centres, counter-clockwise as displayed, and magnified.

    Args:
        images: (N, C, H, W) float; bilinear; what comes in from outside gets the image's minimum.
        targets: (N, 1, H, W) float; nearest; what comes in is 0 (background), and counts.
        angles: (N,) degrees.
        scales: (N,) magnifications; None for 1.
    """
    zooms = np.ones(len(angles)) if scales is None else scales
    if not angles.any() and (zooms == 1.0).all():
        return images, targets
    height, width = images.shape[-2:]
    radians = angles * (math.pi / 180.0)
    cos, sin = np.cos(radians) / zooms, np.sin(radians) / zooms
    # grid_sample's coordinates are normalised by each side: the aspect keeps the rotation rigid.
    matrix = np.zeros((len(angles), 2, 3), dtype=np.float32)
    matrix[:, 0, 0], matrix[:, 0, 1] = cos, -sin * height / width
    matrix[:, 1, 0], matrix[:, 1, 1] = sin * width / height, cos
    theta = uploaded(matrix, images.device)
    grid = F.affine_grid(theta, [len(angles), 1, height, width], align_corners=False)
    floor = images.amin(dim=(1, 2, 3), keepdim=True)
    turned = F.grid_sample(images - floor, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    labels = F.grid_sample(targets, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return turned + floor, labels


def mirror(
    images: torch.Tensor, targets: torch.Tensor, chosen: npt.NDArray[np.bool_]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns images (N, C, H, W) and targets (N, 1, H, W), those `chosen` (N,) mirrored left to right."""
    if not chosen.any():
        return images, targets
    mask = uploaded(chosen, images.device).reshape(-1, 1, 1, 1)
    return torch.where(mask, images.flip(-1), images), torch.where(mask, targets.flip(-1), targets)
