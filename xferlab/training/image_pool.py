"""A pool of generated images, from which a discriminator sees earlier ones too (Shrivastava et al. 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from xferlab.training.randomness import uniform


class ImagePool:
    """Exchanges generated images for earlier ones (Shrivastava et al. 2017, section 2.3; CycleGAN's rule).

    Until the pool is full, each image is kept and returned. From then on each is returned with probability
    1/2; else it takes the place of a kept image, each equally likely, and that one is returned. The images of
    a batch go in one after the other.

    Args:
        domain: Name of the domain that the images belong to: pools of two domains draw apart.
        size: Images that it holds; 0 returns all images as they are.
    """

    def __init__(self, domain: str, *, size: int = 50):
        self._purpose, self._size = f"image pool {domain}", size
        self._images: list[torch.Tensor] = []

    def exchange(self, images: torch.Tensor, *, seed: int, epoch: int, batch: int) -> torch.Tensor:
        """Returns as many images as it takes, without their graph; nothing waits for the device.

        The draws are a function of seed, domain, epoch and batch. A full pool of resumed images goes on as it
        would have.

        Args:
            images: `(N, C, H, W)` on any device; all calls have the same C, H, W and device.
            seed: Of the trial.
            epoch: From 1.
            batch: Number of the batch in the epoch, from 0.
        """
        images = images.detach()
        if not self._size:
            return images
        keys = (np.uint64(batch) << np.uint64(32)) + np.arange(len(images), dtype=np.uint64)
        draws = uniform(keys, seed=seed, purpose=self._purpose, epoch=epoch)
        pairs = zip(images, draws.tolist(), strict=True)
        return torch.stack([self._exchanged(image, draw) for image, draw in pairs])

    def _exchanged(self, image: torch.Tensor, draw: float) -> torch.Tensor:
        if len(self._images) < self._size:
            self._images.append(image.clone())  # a view would keep the whole batch
        elif draw < 0.5:
            slot = int(2.0 * draw * self._size)
            earlier, self._images[slot] = self._images[slot], image.clone()
            return earlier
        return image

    def state(self) -> dict[str, Any]:
        """Returns the images that it holds, which never change."""
        return {"images": list(self._images)}

    def restore(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken."""
        self._images = list(state["images"])
