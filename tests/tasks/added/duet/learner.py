"""The learner of duet."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional
from xferlab.tasks.duet.config import Identity
from xferlab.tasks.images.learner import Batch, ImageLearner

from xferlab.networks.donors import load_strict
from xferlab.networks.unet import UNet
from xferlab.training.batches import Rows
from xferlab.training.examples import ImageExamples
from xferlab.training.learner import Array, AugmentationSeed
from xferlab.training.supervised import Forward


class Duet(nn.Module):
    """The mean of what a segmenter marks, and of what a second network says."""

    def __init__(self, identity: Identity):
        super().__init__()
        self.segmenter = UNet(init_features=identity.model.init_features)
        self.second = nn.Sequential(nn.Conv2d(3, 4, kernel_size=3), nn.ReLU(), nn.Conv2d(4, 1, kernel_size=1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns logits (N,)."""
        colours = images.expand(-1, 3, -1, -1)
        return self.segmenter(colours).mean((1, 2, 3)) + self.second(colours).mean((1, 2, 3))


class DuetLearner(ImageLearner):
    """Predicts the marked share of an image."""

    build = Duet
    said = staticmethod(torch.sigmoid)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return dict(self.network.named_children())

    def start_network_from(self, name: str, weights: Mapping[str, torch.Tensor], *, origin: str) -> None:
        prefix = "second." if name == "second" else ""
        state = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        load_strict(self.networks[name], state, origin=f"{origin}, network {name}")

    def load(self, examples: ImageExamples, rows: Rows, draw: AugmentationSeed | None) -> Batch:
        images, masks = examples.take(rows)
        return Batch(images[:, :1].float() / 255.0, (masks > 127).float().mean((1, 2, 3)))

    def loss(self, forward: Forward, batch: Batch) -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(forward(batch.images), batch.truth)

    def measure(self, examples: ImageExamples, row: int, prediction: Array) -> Mapping[str, float]:
        _, masks = examples.take([row])
        return {"ERROR": abs(float(prediction) - float((masks > 127).float().mean()))}
