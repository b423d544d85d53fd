"""The learner of labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from xferlab.tasks.images.learner import Batch, ImageLearner
from xferlab.tasks.labelled.config import Identity

from xferlab.metrics.classes import values_of_classes
from xferlab.training.batches import Rows
from xferlab.training.examples import ImageExamples
from xferlab.training.learner import Array, AugmentationSeed, Presented
from xferlab.training.supervised import Forward


class LabelledLearner(ImageLearner):
    """Predicts the probability of each class of an image."""

    def build(self, identity: Identity) -> nn.Module:
        width = identity.model.width
        return nn.Sequential(
            nn.Conv2d(1, width, kernel_size=3, stride=2),
            nn.ReLU(),
            nn.Conv2d(width, width, kernel_size=3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, identity.num_classes or 1),
        )

    def said(self, outputs: torch.Tensor) -> torch.Tensor:
        return torch.softmax(outputs, dim=1)

    def load(self, examples: ImageExamples, rows: Rows, draw: AugmentationSeed | None) -> Batch:
        images, _ = examples.take(rows)
        labels = examples.labels[rows] if len(examples.labels) else np.zeros(len(rows), np.int64)
        return Batch(images[:, :1].float() / 255.0, torch.from_numpy(labels).to(self.device))

    def loss(self, forward: Forward, batch: Batch) -> torch.Tensor:
        return functional.cross_entropy(forward(batch.images), batch.truth)

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
