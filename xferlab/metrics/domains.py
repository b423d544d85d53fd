"""How well a simple classifier tells images of two domains apart: 1 for always, 0.5 for by chance.

The classifier is a ridge regression on features of an image, fitted on images of both domains as they are.
Translated images that have the other domain's features are told as such, so that the accuracy falls to 0.5.
It says nothing of what else became of them: look at pictures, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float64]
"""(N, F)."""

BINS, THUMBNAIL, PENALTY = 32, 8, 1.0
_SMALLEST_DEVIATION = 1e-3
"""Of a feature: less counts as this, so that what hardly varies in training says little."""
_SMALLEST_ENERGY = 1e-12


def features_of(images: npt.NDArray[np.floating]) -> Features:
    """Returns features of grey images: histogram, thumbnail and energies of frequencies.

    Args:
        images: (N, H, W) in [0, 1], with sides of 8 px or more; what lies outside is clipped.

    Returns:
        Shares of 32 equal bins of grey levels, means of 8 x 8 fields, and log10 of the mean energy of bands
        of frequencies, from 1, 2, 4 ... cycles an image on.
    """
    pixels = images.clip(0.0, 1.0).astype(np.float64)
    return np.concatenate([_histogram(pixels), _thumbnail(pixels), _energies(pixels)], axis=1)


def _histogram(pixels: Features) -> Features:
    bins = np.minimum((pixels * BINS).astype(int), BINS - 1).reshape(len(pixels), -1)
    counts = np.stack([np.bincount(each, minlength=BINS) for each in bins])
    return np.asarray(counts / bins.shape[1])


def _thumbnail(pixels: Features) -> Features:
    parts = [
        field.mean(axis=(1, 2))
        for rows in np.array_split(pixels, THUMBNAIL, axis=1)
        for field in np.array_split(rows, THUMBNAIL, axis=2)
    ]
    return np.stack(parts, axis=1)


def _energies(pixels: Features) -> Features:
    height, width = pixels.shape[1:]
    cycles = np.hypot(np.fft.fftfreq(height, 1 / height)[:, None], np.fft.rfftfreq(width, 1 / width))
    energy = np.abs(np.fft.rfft2(pixels, norm="forward")) ** 2
    starts = 2 ** np.arange(int(np.log2(min(height, width) // 2)) + 1)
    bands = [energy[:, (cycles >= start) & (cycles < 2 * start)].mean(axis=1) for start in starts]
    return np.asarray(np.log10(np.stack(bands, axis=1) + _SMALLEST_ENERGY))


@dataclass(frozen=True, eq=False)
class DomainClassifier:
    """A ridge classifier of two domains that weigh alike; what is told by sign.

    Attributes:
        mean: Of each feature, (F,).
        deviation: Of each feature.
        weights: Of each standardised feature; their sum is above 0 for the second domain.
    """

    mean: Features
    deviation: Features
    weights: Features

    @staticmethod
    def fit(first: Features, second: Features) -> DomainClassifier:
        """Returns the classifier of features of both domains, of one image each at least."""
        both, number = np.concatenate([first, second]), len(first) + len(second)
        counts = np.repeat([number / (2 * len(first)), number / (2 * len(second))], [len(first), len(second)])
        truth = np.repeat([-1.0, 1.0], [len(first), len(second)])
        mean = np.average(both, axis=0, weights=counts)
        deviation = np.sqrt(np.average((both - mean) ** 2, axis=0, weights=counts)).clip(_SMALLEST_DEVIATION)
        standard = (both - mean) / deviation
        weighed = standard.T * counts
        penalty = PENALTY * np.eye(both.shape[1])
        return DomainClassifier(
            mean, deviation, np.linalg.solve(weighed @ standard + penalty, weighed @ truth)
        )

    def is_second(self, features: Features) -> npt.NDArray[np.bool_]:
        """Returns which images are told to be of the second domain, (N,)."""
        told: npt.NDArray[np.bool_] = (features - self.mean) / self.deviation @ self.weights > 0
        return told

    def accuracy(self, first: Features, second: Features) -> float:
        """Returns the mean of the shares of both domains' images that are told right."""
        return float(1.0 - self.is_second(first).mean() + self.is_second(second).mean()) / 2
