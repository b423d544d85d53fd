"""What is predicted of an image, and the vector of numbers that holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xferlab.metrics.classes import voted
from xferlab.training.learner import Array

Floats = npt.NDArray[np.float32]
ROW, COLUMN, MEAN, SD, CLASSES = 0, 1, 2, 3, 4
"""Columns of a table of patches: its centre, mean and SD of its grey levels as shares of white, and from the
last of these on the probability of each class. Pixels that masks take away count in neither."""
_UNDEFINED = -1.0
"""Stands for NaN in a vector, whose other numbers are finite and at least 0 unless the network is broken."""


@dataclass(frozen=True)
class Prediction:
    """What is predicted of one image, of K classes.

    Attributes:
        probability: (K,), of each class; of patches the mean over them.
        heat: (h, w) in [0, 1]: where the network looks for the class that it calls the image.
        patches: (P, 4 + K), see `ROW`; None where the network sees whole images.
        heats: (K, m, m) in [0, 1]: the map of each class, of patches.
        covered: Share of the region's pixels that some patch covers; NaN without patches or region.
    """

    probability: Floats
    heat: Floats
    patches: Floats | None = None
    heats: Floats | None = None
    covered: float = float("nan")

    @staticmethod
    def of_patches(patches: Floats, heats: Floats, covered: float) -> Prediction:
        """Returns what patches predict together."""
        called = voted(patches[:, CLASSES:])
        return Prediction(patches[:, CLASSES:].mean(axis=0), heats[called], patches, heats, covered)

    @staticmethod
    def mean_of(cases: Sequence[Prediction]) -> Prediction:
        """Returns what several networks predict together: means, and of patches the vote of all networks'."""
        patches = [case.patches for case in cases if case.patches is not None]
        if not patches:
            probability = np.mean([case.probability for case in cases], axis=0)
            return Prediction(probability, np.mean([case.heat for case in cases], axis=0))
        heats = [case.heats for case in cases if case.heats is not None]
        covered = float(np.mean([case.covered for case in cases]))
        return Prediction.of_patches(np.concatenate(patches), np.mean(heats, axis=0), covered)

    @property
    def voted(self) -> int | None:
        """The class that most patches vote for; None where the network sees whole images."""
        return None if self.patches is None else voted(self.patches[:, CLASSES:])

    def array(self) -> Floats:
        """Returns the vector."""
        if self.patches is None or self.heats is None:
            return np.concatenate([self.probability, self.heat.ravel()])
        parts = [np.array([self.covered]), self.patches.ravel(), self.heats.ravel()]
        vector = np.concatenate(parts).astype(np.float32)
        return np.where(np.isnan(vector), np.float32(_UNDEFINED), vector)

    @staticmethod
    def of(array: Array, *, num_classes: int, num_patches: int) -> Prediction:
        """Returns what `array` gave; without patches, their number is 0."""
        if not num_patches:
            heat = array[num_classes:]
            side = round(len(heat) ** 0.5)
            return Prediction(array[:num_classes], heat.reshape(side, side))
        array = np.where(array == _UNDEFINED, np.float32(np.nan), array)
        end = 1 + num_patches * (CLASSES + num_classes)
        side = round(((len(array) - end) / num_classes) ** 0.5)
        patches = array[1:end].reshape(num_patches, -1)
        return Prediction.of_patches(patches, array[end:].reshape(num_classes, side, side), float(array[0]))
