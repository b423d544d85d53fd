"""Cases in memory: of any size, in the shape of a table of the image cache, or random ones of one size."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from xferlab.training.augment import Augmentation
from xferlab.training.examples import ImageExamples, NativeExamples

CPU = torch.device("cpu")
STRONG = Augmentation(objects=3, blur=1.0, noise=0.05, gamma=(0.7, 1.5), scale=(0.9, 1.1), flip=0.5)
"""All of it; a rotation is chosen separately."""


@dataclass
class Images:
    """Images (C, H, W) and targets (H, W), or (S, H, W) of several structures, uint8."""

    images: list[np.ndarray]
    targets: list[np.ndarray]
    spacing_mm: np.ndarray = field(default_factory=lambda: np.full((0, 2), np.nan, np.float32))

    def __post_init__(self) -> None:
        if not len(self.spacing_mm):
            self.spacing_mm = np.full((len(self.images), 2), np.nan, np.float32)

    def image(self, row: int) -> np.ndarray:
        return self.images[row]

    def targets_of(self, row: int) -> np.ndarray:
        return self.targets[row].reshape(-1, *self.images[row].shape[1:])


def smooth(height: int, width: int, *, seed: int, channels: int = 1) -> np.ndarray:
    """A waving image (channels, height, width), brighter in a disc around the middle."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = np.sin(rows / 9 + seed) + np.cos(columns / 7 + seed)
    levels = 110 + 25 * waves + 60 * disc(height, width) + rng.normal(0, 5, (channels, height, width))
    return np.clip(levels, 0, 255).astype(np.uint8)


def disc(height: int, width: int) -> np.ndarray:
    """An ellipse that fills the middle half of the sides, bool (height, width)."""
    rows, columns = np.mgrid[:height, :width]
    down, across = (rows + 0.5) / height - 0.5, (columns + 0.5) / width - 0.5
    return down**2 + across**2 < 1 / 16


def label(height: int, width: int) -> np.ndarray:
    """A target with structure, background and a pixel to ignore, uint8 (height, width)."""
    target = disc(height, width) * np.uint8(255)
    target[0, 0] = 127
    return target


def images_of(sizes: Sequence[tuple[int, int]], *, channels: int = 1) -> Images:
    return Images(
        [smooth(height, width, seed=n, channels=channels) for n, (height, width) in enumerate(sizes)],
        [label(height, width) for height, width in sizes],
    )


def digests(rows: Sequence[int]) -> tuple[str, ...]:
    return tuple(hashlib.sha256(str(row).encode()).hexdigest() for row in rows)


def native(images: Images, *, device: torch.device = CPU) -> NativeExamples:
    count = len(images.images)
    rows, structures = np.arange(count), named(len(images.targets_of(0)))
    return NativeExamples(digests(range(count)), images, structures=structures, rows=rows, device=device)


def named(number: int) -> tuple[str, ...]:
    """Names of so many structures."""
    return ("structure",) if number == 1 else tuple("abcdefgh"[:number])


def resized(
    images: np.ndarray, targets: np.ndarray, *, rows: Sequence[int] | None = None, device: torch.device = CPU
) -> ImageExamples:
    """Cases of one size, with targets (N, H, W) or (N, S, H, W); a case's digest is that of its row."""
    chosen = range(len(images)) if rows is None else rows
    spacing = np.full((len(images), 2), np.nan, np.float32)
    targets = targets.reshape(len(targets), -1, *images.shape[2:])
    return ImageExamples(
        digests(chosen),
        images,
        targets,
        spacing,
        structures=named(targets.shape[1]),
        rows=np.array(chosen),
        device=device,
    )


def noisy(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Random grey images (count, 1, size, size), and random targets of all three values."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 1, size, size), dtype=np.uint8)
    return images, random.choice(np.array([0, 127, 255], np.uint8), (count, size, size))
