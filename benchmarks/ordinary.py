"""The ordinary way to train: a loader with worker processes, per-sample transforms, float32, Adam."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import numpy as np
import torch
from images import manifest_rows
from PIL import Image
from skimage.transform import rotate
from torch.utils.data import DataLoader, Dataset
from turns import Setting
from works import BATCH_SIZE, LR, ROTATION, WORKS

NUM_LOADERS = 2


class Images(Dataset[tuple[torch.Tensor, ...]]):
    """Reads, resizes, normalises and rotates one image with its mask at a time."""

    def __init__(self, setting: Setting, *, augment: bool = True):
        """Takes the rows of the manifest."""
        self.root, self.rows, self.work = setting.root, manifest_rows(setting.root), WORKS[setting.task]
        self.size, self.augment = (setting.size_px, setting.size_px), augment

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        """Returns the image (C, H, W), float32, and what the loss needs beside it."""
        pixels, mask = self.pixels(index)
        image = self.work.normalise(torch.from_numpy(pixels).float()[None, None])[0, 0].numpy()
        if self.augment and random.random() < ROTATION["probability"]:
            image, mask = turned(image, mask, random.uniform(-ROTATION["degrees"], ROTATION["degrees"]))
        planes = torch.from_numpy(image)[None, None], torch.from_numpy(mask)[None, None]
        return tuple(part[0] for part in self.work.batch(*planes, [self.rows[index]["pathology"]]))

    def pixels(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns image and mask at the network's size, uint8 (H, W)."""
        row = self.rows[index]
        picture = Image.open(self.root / row["image"]).convert("L")
        labels = Image.open(self.root / row["mask"])
        image = np.array(picture.resize(self.size, Image.Resampling.BILINEAR))
        return image, np.array(labels.resize(self.size, Image.Resampling.NEAREST))


def turned(image: np.ndarray, mask: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns image and mask turned counter-clockwise by an angle in degrees."""
    image = rotate(image, angle, order=1, cval=image.min(), preserve_range=True)
    return image, rotate(mask, angle, order=0, preserve_range=True).astype(np.uint8)


class OrdinaryWay:
    """The training loop of many a script."""

    def __init__(self, setting: Setting):
        """Starts from random weights."""
        torch.set_num_threads(setting.threads)
        self.work = WORKS[setting.task]
        self.loader = DataLoader(
            Images(setting), batch_size=BATCH_SIZE, shuffle=True, num_workers=NUM_LOADERS
        )
        self.model = self.work.network(setting)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LR)

    def steps(self) -> Iterator[tuple[int, float]]:
        """Trains in new epochs; the loaders go on preparing batches until the last step ends."""
        for image, *truth in itertools.chain.from_iterable(itertools.repeat(self.loader)):
            self.optimizer.zero_grad()
            loss = self.work.loss(self.model(image), *truth)
            loss.backward()
            self.optimizer.step()
            yield len(image), loss.item()
