"""The learner of labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from xferlab.tasks.labelled.config import Identity

from xferlab.metrics.classes import values_of_classes
from xferlab.networks.build import initialise
from xferlab.training.batches import Rows
from xferlab.training.examples import ImageExamples
from xferlab.training.learner import Array, AugmentationSeed, Learner, Presented
from xferlab.training.precision import float32
from xferlab.training.supervised import Forward, SupervisedLearner


class Batch(NamedTuple):
    """Images (N, 1, H, W) in 0..1 and labels (N,) int64; those of new images mean nothing."""

    images: torch.Tensor
    labels: torch.Tensor


class LabelledLearner(SupervisedLearner[ImageExamples, Batch]):
    """Predicts the probability of each class of an image."""

    def __init__(self, identity: Identity, device: torch.device, *, share: Learner[Any, Any] | None = None):
        network = network_of(identity) if share is None else share.networks["network"]
        super().__init__(
            network.to(device),
            device,
            seed=identity.seed,
            batch_size=identity.training.batch_size,
            lr=identity.training.lr,
            precision=identity.execution.precision,
            compile_network=identity.execution.compile,
        )

    def load(self, examples: ImageExamples, rows: Rows, draw: AugmentationSeed | None) -> Batch:
        images, _ = examples.take(rows)
        labels = examples.labels[rows] if len(examples.labels) else np.zeros(len(rows), np.int64)
        return Batch(images[:, :1].float() / 255.0, torch.from_numpy(labels).to(self.device))

    def loss(self, forward: Forward, batch: Batch) -> torch.Tensor:
        return functional.cross_entropy(forward(batch.images), batch.labels)

    def predict(self, batch: Batch) -> Sequence[Array]:
        self.network.eval()
        with torch.inference_mode(), float32():
            return list(torch.softmax(self.network(batch.images), dim=1).cpu().numpy())

    def measure(self, examples: ImageExamples, row: int, prediction: Array) -> Mapping[str, float]:
        truth = np.arange(len(examples.classes)) == examples.labels[row]
        return values_of_classes(examples.classes, truth, prediction, exclusive=True)

    def for_others(self, prediction: Array, threshold: float) -> Mapping[str, Array]:
        return {"probability": prediction}

    def present(
        self, image: Array, prediction: Array, *, height: int, targets: Sequence[str], threshold: float
    ) -> Presented:
        probabilities = {f"P_{name}": float(value) for name, value in zip(targets, prediction, strict=True)}
        return Presented({}, {"class": targets[int(prediction.argmax())], **probabilities})


def network_of(identity: Identity) -> nn.Module:
    """Returns the network with the seed's random weights."""
    width = identity.model.width
    network = nn.Sequential(
        nn.Conv2d(1, width, kernel_size=3, stride=2),
        nn.ReLU(),
        nn.Conv2d(width, width, kernel_size=3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, identity.num_classes or 1),
    )
    initialise(network, identity.seed)
    return network
