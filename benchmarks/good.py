"""A good way to train: images decoded once, and whole batches augmented at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from ordinary import Images
from torch.nn import functional as F
from turns import Setting
from works import BATCH_SIZE, LR, ROTATION, WORKS


class GoodWay:
    """A loop with care: images as bytes in memory, whole batches turned at once, short floats, channels last.

    Short floats where the CPU has instructions for them; the weights and the loss are float32.
    """

    def __init__(self, setting: Setting):
        """Decodes all images, and starts from random weights."""
        torch.set_num_threads(setting.threads)
        self.work, images = WORKS[setting.task], Images(setting)
        pixels, masks = zip(*map(images.pixels, range(len(images))), strict=True)
        self.images, self.masks = (
            torch.from_numpy(np.stack(part))[:, None].to(setting.device) for part in (pixels, masks)
        )
        self.pathologies = [row["pathology"] for row in images.rows]
        self.device, self.is_short = setting.device, setting.is_short
        self.model = self.work.network(setting).to(setting.device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LR, fused=True)

    def steps(self) -> Iterator[tuple[int, float]]:
        """Trains in new epochs."""
        for rows in itertools.chain.from_iterable(map(self._epoch, itertools.count())):
            image, *truth = self.batch(rows)
            self.optimizer.zero_grad()
            with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.is_short):
                output = self.model(image.contiguous(memory_format=torch.channels_last))
            loss = self.work.loss(output.float(), *truth)
            loss.backward()
            self.optimizer.step()
            yield len(rows), loss.item()

    def _epoch(self, number: int) -> tuple[torch.Tensor, ...]:
        return torch.randperm(len(self.images)).split(BATCH_SIZE)

    def batch(self, rows: torch.Tensor, *, augment: bool = True) -> tuple[torch.Tensor, ...]:
        """Returns the network's input and what the loss takes beside its output, on the device."""
        images, masks = self.work.normalise(self.images[rows].float()), self.masks[rows]
        if augment:
            chosen, angles = torch.rand(2, len(rows), device=images.device)
            angles = (2 * angles - 1) * math.radians(ROTATION["degrees"])
            images, masks = turned(images, masks, angles * (chosen < ROTATION["probability"]))
        parts = self.work.batch(images, masks, [self.pathologies[row] for row in rows])
        return tuple(part.to(images.device) for part in parts)


def turned(
    images: torch.Tensor, masks: torch.Tensor, angles: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns images and masks (N, 1, H, W) turned counter-clockwise by angles in radians, (N,)."""
    sine, cosine, nothing = angles.sin(), angles.cos(), torch.zeros_like(angles)
    rows = torch.stack([cosine, -sine, nothing, sine, cosine, nothing], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(rows, [*images.shape], align_corners=False)
    lowest = images.amin(dim=(1, 2, 3), keepdim=True)
    moved = F.grid_sample(images - lowest, grid, align_corners=False) + lowest
    return moved, F.grid_sample(masks.float(), grid, mode="nearest", align_corners=False)
