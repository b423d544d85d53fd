"""The part of a learner that the tests' tasks have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from xferlab.tasks.images.sections import Identity

from xferlab.networks.build import initialise
from xferlab.training.examples import ImageExamples
from xferlab.training.learner import Array
from xferlab.training.precision import float32
from xferlab.training.step import Optimisation
from xferlab.training.supervised import SupervisedLearner


class Batch(NamedTuple):
    """Images (N, 1, H, W) in 0..1, and what is true of each (N,); of new images, that means nothing."""

    images: torch.Tensor
    truth: torch.Tensor


class ImageLearner(SupervisedLearner[ImageExamples, Batch]):
    """Says something of each image."""

    def __init__(self, identity: Identity, device: torch.device, *, share: ImageLearner | None = None):
        network = self.build(identity) if share is None else share.network
        if share is None:
            initialise(network, identity.seed)
        super().__init__(
            network.to(device),
            device,
            seed=identity.seed,
            batch_size=identity.training.batch_size,
            optimisation=Optimisation(lr=identity.training.lr),
            execution=identity.execution,
        )

    @abstractmethod
    def build(self, identity: Identity) -> nn.Module:
        """Returns the network of a trial."""

    @abstractmethod
    def said(self, outputs: torch.Tensor) -> torch.Tensor:
        """Returns what outputs of the network say of their images."""

    def predict(self, batch: Batch) -> Sequence[Array]:
        self.network.eval()
        with torch.inference_mode(), float32():
            return list(self.said(self.network(batch.images)).cpu().numpy())
