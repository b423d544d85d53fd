"""Good ways to train: images decoded once and batches augmented at once, and MONAI's cached data set."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset
from monai.transforms import Compose, RandRotated
from ordinary import NUM_LOADERS, Images
from torch.nn import functional as F
from torch.utils.data import DataLoader
from turns import Setting
from works import BATCH_SIZE, LR, ROTATION, WORKS

from xferlab.cli.session import cpu_has_bfloat16


class GoodWay:
    """A loop with care: images as bytes in memory, whole batches turned at once, short floats, channels last.

    Short floats where the CPU has instructions for them; the weights and the loss are float32.
    """

    def __init__(self, setting: Setting):
        """Decodes all images, and starts from random weights."""
        torch.set_num_threads(setting.threads)
        self.work, images = WORKS[setting.task], Images(setting)
        pixels, masks = zip(*map(images.pixels, range(len(images))), strict=True)
        self.images, self.masks = (torch.from_numpy(np.stack(part))[:, None] for part in (pixels, masks))
        self.pathologies = [row["pathology"] for row in images.rows]
        self.is_short = cpu_has_bfloat16()
        self.model = self.work.network(setting).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LR, fused=True)

    def steps(self) -> Iterator[tuple[int, float]]:
        """Trains in new epochs."""
        for rows in itertools.chain.from_iterable(map(self._epoch, itertools.count())):
            image, *truth = self.batch(rows)
            self.optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.is_short):
                output = self.model(image.contiguous(memory_format=torch.channels_last))
            loss = self.work.loss(output.float(), *truth)
            loss.backward()
            self.optimizer.step()
            yield len(rows), loss.item()

    def _epoch(self, number: int) -> tuple[torch.Tensor, ...]:
        return torch.randperm(len(self.images)).split(BATCH_SIZE)

    def batch(self, rows: torch.Tensor, *, augment: bool = True) -> tuple[torch.Tensor, ...]:
        """Returns the network's input and what the loss takes beside its output."""
        images, masks = self.work.normalise(self.images[rows].float()), self.masks[rows]
        if augment:
            chosen = torch.rand(len(rows)) < ROTATION["probability"]
            angles = (2 * torch.rand(len(rows)) - 1) * math.radians(ROTATION["degrees"]) * chosen
            images, masks = turned(images, masks, angles)
        return self.work.batch(images, masks, [self.pathologies[row] for row in rows])


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


class MonaiWay:
    """The loop of a MONAI tutorial: `CacheDataset`, random transforms of dictionaries, a loader, float32."""

    def __init__(self, setting: Setting):
        """Fills the cache, and starts from random weights."""
        torch.set_num_threads(setting.threads)
        self.work, self.images = WORKS[setting.task], Images(setting)
        transform = Compose([self._decoded, RandRotated(
            keys=["image", "mask"], range_x=math.radians(ROTATION["degrees"]), prob=ROTATION["probability"],
            mode=["bilinear", "nearest"], padding_mode="border",
        )])  # fmt: skip
        cached = CacheDataset(range(len(self.images)), transform, num_workers=NUM_LOADERS, progress=False)
        self.loader = DataLoader(cached, batch_size=BATCH_SIZE, shuffle=True, num_workers=NUM_LOADERS)
        self.model = self.work.network(setting)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LR)

    def _decoded(self, index: int) -> dict[str, Any]:
        image, mask = (torch.from_numpy(part).float()[None] for part in self.images.pixels(index))
        return {"image": self.work.normalise(image[None])[0], "mask": mask, "index": index}

    def steps(self) -> Iterator[tuple[int, float]]:
        """Trains in new epochs; the loaders go on preparing batches until the last step ends."""
        for found in itertools.chain.from_iterable(itertools.repeat(self.loader)):
            pathologies = [self.images.rows[index]["pathology"] for index in found["index"]]
            image, *truth = self.work.batch(
                found["image"].as_tensor(), found["mask"].as_tensor(), pathologies
            )
            self.optimizer.zero_grad()
            loss = self.work.loss(self.model(image), *truth)
            loss.backward()
            self.optimizer.step()
            yield len(image), loss.item()
