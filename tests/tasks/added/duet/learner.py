"""The learner of duet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from xferlab.tasks.duet.config import Identity

from xferlab.networks.build import initialise
from xferlab.networks.donors import load_strict
from xferlab.networks.unet import UNet
from xferlab.training.batches import Rows
from xferlab.training.examples import ImageExamples
from xferlab.training.learner import Array, AugmentationSeed, Learner
from xferlab.training.precision import float32
from xferlab.training.supervised import Forward, SupervisedLearner


class Batch(NamedTuple):
    """Images (N, 3, H, W) in 0..1 and the marked share of each image (N,)."""

    images: torch.Tensor
    areas: torch.Tensor


class Duet(nn.Module):
    """The mean of what a segmenter marks, and of what a second network says."""

    def __init__(self, identity: Identity):
        super().__init__()
        self.segmenter = UNet(init_features=identity.model.init_features)
        self.second = nn.Sequential(nn.Conv2d(3, 4, kernel_size=3), nn.ReLU(), nn.Conv2d(4, 1, kernel_size=1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns logits (N,)."""
        return self.segmenter(images).mean((1, 2, 3)) + self.second(images).mean((1, 2, 3))


class DuetLearner(SupervisedLearner[ImageExamples, Batch]):
    """Predicts the marked share of an image."""

    def __init__(self, identity: Identity, device: torch.device, *, share: Learner[Any, Any] | None = None):
        network = Duet(identity)
        initialise(network, identity.seed)
        for name, part in share.networks.items() if share else ():
            setattr(network, name, part)
        super().__init__(
            network.to(device),
            device,
            seed=identity.seed,
            batch_size=identity.training.batch_size,
            lr=identity.training.lr,
            precision=identity.execution.precision,
            compile_network=identity.execution.compile,
        )

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return dict(self.network.named_children())

    def start_network_from(self, name: str, weights: Mapping[str, torch.Tensor], *, origin: str) -> None:
        prefix = "second." if name == "second" else ""
        state = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        load_strict(self.networks[name], state, origin=f"{origin}, network {name}")

    def load(self, examples: ImageExamples, rows: Rows, draw: AugmentationSeed | None) -> Batch:
        images, targets = examples.take(rows)
        return Batch(
            images[:, :1].expand(-1, 3, -1, -1).float() / 255.0, (targets > 127).float().mean((1, 2, 3))
        )

    def loss(self, forward: Forward, batch: Batch) -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(forward(batch.images), batch.areas)

    def predict(self, batch: Batch) -> Sequence[Array]:
        self.network.eval()
        with torch.inference_mode(), float32():
            return list(torch.sigmoid(self.network(batch.images)).cpu().numpy())

    def measure(self, examples: ImageExamples, row: int, prediction: Array) -> Mapping[str, float]:
        _, targets = examples.take([row])
        return {"ERROR": abs(float(prediction) - float((targets > 127).float().mean()))}
