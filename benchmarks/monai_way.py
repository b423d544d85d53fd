"""The way of MONAI's tutorials: a cached data set, random transforms of single images, a loader."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from monai.data import CacheDataset
from monai.transforms import Compose, RandRotated
from ordinary import NUM_LOADERS, Images
from torch.utils.data import DataLoader
from turns import Setting
from works import BATCH_SIZE, LR, ROTATION, WORKS


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
        transform.set_random_state(seed=0)
        cached = CacheDataset(range(len(self.images)), transform, num_workers=NUM_LOADERS, progress=False)
        self.loader = DataLoader(cached, batch_size=BATCH_SIZE, shuffle=True, num_workers=NUM_LOADERS)
        self.device = setting.device
        self.model = self.work.network(setting).to(setting.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LR)

    def _decoded(self, index: int) -> dict[str, Any]:
        image, mask = (torch.from_numpy(part).float()[None] for part in self.images.pixels(index))
        return {"image": self.work.normalise(image[None])[0], "mask": mask, "index": index}

    def steps(self) -> Iterator[tuple[int, float]]:
        """Trains in new epochs; the loaders go on preparing batches until the last step ends."""
        for batch in itertools.chain.from_iterable(itertools.repeat(self.loader)):
            pathologies = [self.images.rows[index]["pathology"] for index in batch["index"]]
            image, *truth = self.work.batch(
                batch["image"].as_tensor(), batch["mask"].as_tensor(), pathologies
            )
            image, *truth = (part.to(self.device) for part in (image, *truth))
            self.optimizer.zero_grad()
            loss = self.work.loss(self.model(image), *truth)
            loss.backward()
            self.optimizer.step()
            yield len(image), loss.item()
