"""The seam for other methods: what a batch is, what the loss is, what a case's record holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from xferlab.training.batches import Rows


@dataclass(frozen=True)
class AugmentationSeed:
    """What augmentation is drawn from.

    Attributes:
        seed: The trial's seed.
        epoch: From 1.
    """

    seed: int
    epoch: int


class Examples(Protocol):
    """The cases of one part or evaluation, in digest order, on their way to the device."""

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        """64 bits of each case's digest, shape (N,): what draws depend on."""
        ...

    def __len__(self) -> int:
        """Number of cases."""
        ...


E_contra = TypeVar("E_contra", bound=Examples, contravariant=True)
B = TypeVar("B")


class Task(Protocol[E_contra, B]):
    """A kind of learning problem. The loop sees examples and batches only through it."""

    def batch(self, examples: E_contra, rows: Rows, draw: AugmentationSeed | None) -> B:
        """Returns the cases of `rows` on the device, augmented if there is something to draw from."""
        ...

    def loss(self, model: nn.Module, batch: B) -> torch.Tensor:
        """Returns the scalar float32 loss of a batch."""
        ...

    def predict(self, model: nn.Module, batch: B) -> npt.NDArray[np.float32] | list[npt.NDArray[np.float32]]:
        """Returns the float32 output of every case of a batch; an array if they have one size."""
        ...

    def measure(
        self, examples: E_contra, row: int, prediction: npt.NDArray[np.float32]
    ) -> Mapping[str, float]:
        """Returns the metrics of one case, by name."""
        ...

    def pixels(self, examples: E_contra, row: int, prediction: npt.NDArray[np.float32]) -> Mapping[str, Any]:
        """Returns what is stored of a case to look at: height, width, image, target, probability (uint8)."""
        ...
