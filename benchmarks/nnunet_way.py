"""The way of nnU-Net's trainer: batches from processes of its library, half precision, a compiled network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.data_loader import DataLoader
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from machine import num_cores
from ordinary import Images
from torch import nn
from turns import Setting
from works import BATCH_SIZE, ROTATION

NUM_LOADERS = min(12, num_cores())
"""Processes that make batches: 12 is nnU-Net's default."""
LR, MOMENTUM, DECAY, LARGEST_GRADIENT = 1e-2, 0.99, 3e-5, 12.0


class Batches(DataLoader):  # type: ignore[misc]  # of a library without types
    """Batches of normalised images and of their masks, turned one by one."""

    def __init__(self, setting: Setting):
        """Decodes all images."""
        self.images = Images(setting)
        self.pixels = [self.images.pixels(index) for index in range(len(self.images))]
        super().__init__(self.pixels, BATCH_SIZE, NUM_LOADERS, infinite=True)
        self.indices = list(range(len(self.pixels)))
        angle = math.radians(ROTATION["degrees"])
        self.turn = SpatialTransform(
            (setting.size_px, setting.size_px), 0, random_crop=False, p_rotation=ROTATION["probability"],
            rotation=(-angle, angle), mode_seg="nearest",
        )  # fmt: skip

    def generate_train_batch(self) -> dict[str, Any]:
        """Returns image (N, 1, H, W), float32, mask (N, 1, H, W), and the numbers of the images."""
        chosen = self.get_indices()
        turned = [self._case(index) for index in chosen]
        return {
            "data": torch.stack([case["image"] for case in turned]),
            "target": torch.stack([case["segmentation"] for case in turned]),
            "keys": chosen,
        }

    def _case(self, index: int) -> dict[str, torch.Tensor]:
        image, mask = (torch.from_numpy(np.asarray(part)).float()[None] for part in self.pixels[index])
        case: dict[str, torch.Tensor] = self.turn(
            image=self.images.work.normalise(image[None])[0], segmentation=mask
        )
        return case


class NnunetWay:
    """The training step of nnU-Net: float16 with a scaled loss, Nesterov's momentum, clipped gradients.

    Network and loss are those of the other ways. As nnU-Net does it, the network is compiled on a GPU only.
    """

    def __init__(self, setting: Setting):
        """Starts the processes, and a network from random weights."""
        torch.set_num_threads(setting.threads)
        batches, self.device = Batches(setting), setting.device
        self.work, self.rows = batches.images.work, batches.images.rows
        self.batches = NonDetMultiThreadedAugmenter(
            batches,
            None,
            NUM_LOADERS,
            num_cached=max(6, NUM_LOADERS // 2),
            pin_memory=self.is_cuda,
            wait_time=0.002,
        )
        self.model: Any = self.work.network(setting).to(setting.device)
        if self.is_cuda:
            torch.backends.cudnn.benchmark = True
            self.model = torch.compile(self.model)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=LR, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY
        )
        self.scaler = torch.amp.GradScaler(self.device, enabled=self.is_cuda)

    @property
    def is_cuda(self) -> bool:
        """Whether it trains on a GPU."""
        return self.device == "cuda"

    def steps(self) -> Iterator[tuple[int, float]]:
        """Trains on; the processes go on preparing batches until this one ends."""
        for batch in self.batches:
            pathologies = [self.rows[index]["pathology"] for index in batch["keys"]]
            parts = self.work.batch(batch["data"], batch["target"], pathologies)
            image, *truth = (part.to(self.device, non_blocking=True) for part in parts)
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device, dtype=torch.float16, enabled=self.is_cuda):
                loss = self.work.loss(self.model(image).float(), *truth)
            self.scaler.scale(loss).backward()
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_GRADIENT)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            yield len(image), loss.item()
