"""Whether the output can be read as a probability."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xferlab.metrics.image import ScoredImage
from xferlab.metrics.metric import ImageMetric

NUM_BINS = 15


@partial(
    ImageMetric,
    name="BRIER",
    label="Brier score",
    better="lower",
    source="Brier 1950, in the form for one binary event",
    definition="Mean squared difference of output and target.",
)
def brier(image: ScoredImage) -> float:
    """Mean over pixels of (p - t)^2, in [0, 1], in float64 (Brier 1950, one binary event)."""
    return float(np.mean(image.once(_errors) ** 2))


@partial(
    ImageMetric,
    name="ECE",
    label="Calibration error",
    better="lower",
    source="Guo et al. 2017, eq. 3, on the target class' probability",
    definition="Mean over pixels of |mean output - target frequency| of their bin, one of 15 equal ones.",
)
def expected_calibration_error(image: ScoredImage) -> float:
    """Expected calibration error in [0, 1] (Guo et al. 2017, eq. 3), of the target class' probability.

    Pixels are put into `NUM_BINS` bins of equal width on [0, 1] by their output (1 belongs to the last bin);
    the absolute difference of mean output and target frequency is averaged over the bins, weighted by their
    pixels. A bin without pixels has no weight.
    """
    bins = bins_of(image.probability)
    # Per bin, |sum of outputs - number of target pixels| is its pixels times its gap.
    gaps = np.bincount(bins, weights=image.once(_errors), minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / bins.size)


def bins_of(probability: NDArray[Any]) -> NDArray[np.intp]:
    """Returns the bin of each probability, one of `NUM_BINS` equal ones on [0, 1]; 1 belongs to the last."""
    scaled = np.multiply(probability, NUM_BINS, dtype=np.float64)
    bins: NDArray[np.intp] = np.minimum(scaled, NUM_BINS - 1, out=scaled).astype(np.intp)
    return bins


def _errors(image: ScoredImage) -> NDArray[np.float64]:
    return image.probability.astype(np.float64) - image.label
