"""Artefacts of a segmentation that overlap hardly sees: bridges and islands (vidal2021, fig. 13).

Components have 8-connectivity: pixels that touch at a corner belong together, so that a thin diagonal line is
one component, and a speck of noise is counted once.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from xferlab.metrics.image import ScoredImage, box_of
from xferlab.metrics.metric import VIDAL, ImageMetric

BRIDGE_COVERAGE = 0.1

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


@partial(
    ImageMetric,
    name="COMPONENTS",
    label="Components",
    unit="count",
    better=None,
    source=f"artefacts of {VIDAL}, fig. 13",
    definition="Connected components (8-connectivity) of the prediction; two organs make two.",
    undefined="Always defined; 0 for an empty prediction.",
)
def components(image: ScoredImage) -> float:
    """Number of connected components of the prediction; 0 if it is empty."""
    return float(image.once(_overlaps).shape[0] - 1)


@partial(
    ImageMetric,
    name="BRIDGES",
    label="Bridges",
    unit="count",
    better="lower",
    source=f"artefacts of {VIDAL}, fig. 13",
    definition="Predicted components that cover at least 10 % of each of two or more target components.",
    undefined="NaN if the target has fewer than two components.",
)
def bridges(image: ScoredImage) -> float:
    """Number of predicted components that cover at least 10 % of each of two or more target components.

    Returns:
        A count, as float; NaN if the target has fewer than two components: nothing to bridge.
    """
    overlaps = image.once(_overlaps)
    if overlaps.shape[1] - 1 < 2:
        return float("nan")
    coverage = overlaps[1:, 1:] / overlaps[:, 1:].sum(axis=0)
    return float(np.count_nonzero((coverage >= BRIDGE_COVERAGE).sum(axis=1) >= 2))


@partial(
    ImageMetric,
    name="ISLANDS",
    label="Islands",
    unit="count",
    better="lower",
    source=f"artefacts of {VIDAL}, fig. 13",
    definition="Predicted components that share no pixel with the target.",
    undefined="Always defined; every predicted component is one if the target is empty.",
)
def islands(image: ScoredImage) -> float:
    """Number of predicted components that share no pixel with the target; all, if the target is empty."""
    return float(np.count_nonzero(image.once(_overlaps)[1:, 1:].sum(axis=1) == 0))


def _overlaps(image: ScoredImage) -> NDArray[np.int64]:
    """Returns int64 `(P + 1, T + 1)`: pixels shared by predicted and target component; 0 is background.

    Of the background of both, only pixels in the box of the masks are counted.
    """
    from scipy.ndimage import label  # slow to import, and plans only need declarations

    box = box_of(image.prediction, image.target)
    predicted, num_predicted = label(image.prediction[box], structure=_EIGHT_NEIGHBOURS, output=np.intp)
    actual, num_actual = label(image.target[box], structure=_EIGHT_NEIGHBOURS, output=np.intp)
    shape = (num_predicted + 1, num_actual + 1)
    pairs = predicted * shape[1] + actual
    return np.bincount(pairs.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
