"""Augmentation of whole batches on their device."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from xferlab.training.randomness import uniform


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
    images: torch.Tensor, targets: torch.Tensor, angles: npt.NDArray[np.float64]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns images and targets rotated about their centres, counter-clockwise as displayed.

    Args:
        images: (N, C, H, W) float; bilinear; what comes in from outside gets the image's minimum.
        targets: (N, 1, H, W) float; nearest; what comes in is 0 (background), and counts.
        angles: (N,) degrees.
    """
    if not angles.any():
        return images, targets
    height, width = images.shape[-2:]
    radians = angles * (math.pi / 180.0)
    cos, sin = np.cos(radians), np.sin(radians)
    # grid_sample's coordinates are normalised by each side: the aspect keeps the rotation rigid.
    matrix = np.zeros((len(angles), 2, 3), dtype=np.float32)
    matrix[:, 0, 0], matrix[:, 0, 1] = cos, -sin * height / width
    matrix[:, 1, 0], matrix[:, 1, 1] = sin * width / height, cos
    theta = torch.from_numpy(matrix).to(images.device)
    grid = F.affine_grid(theta, [len(angles), 1, height, width], align_corners=False)
    floor = images.amin(dim=(1, 2, 3), keepdim=True)
    turned = F.grid_sample(images - floor, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    labels = F.grid_sample(targets, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return turned + floor, labels
