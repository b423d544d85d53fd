"""Area under the ROC curve, exact."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from xferlab.metrics.image import ScoredImage
from xferlab.metrics.metric import VIDAL, ImageMetric


@partial(
    ImageMetric,
    name="AUC",
    label="AUC",
    better="higher",
    source=f"{VIDAL}, section 3.3, after Bradley 1997",
    definition="Probability that a target pixel's output exceeds a background pixel's; ties count half.",
    undefined="NaN if the target holds a single class.",
)
def auc(image: ScoredImage) -> float:
    """Exact area under the ROC curve over the pixels.

    The probability that a target pixel has a higher output than a background pixel, ties counting half: the
    Mann-Whitney statistic (vidal2021, section 3.3, after Bradley 1997). Counted in integers; only the final
    division rounds.

    Returns:
        A value in [0, 1]; NaN if the target holds a single class.
    """
    positives = int(np.count_nonzero(image.label))
    negatives = image.label.size - positives
    if not positives or not negatives:
        return float("nan")
    # The bits of non-negative floats order as the floats do. Shifting out the sign (set in -0.0) makes room
    # for the class, which then decides the order in a tie: an integer sort ranks all pixels.
    bits = image.probability.view(np.uint32) << np.uint32(1)
    at_or_below = _negatives_before_positives(bits | image.label, positive_bit=1)
    below = _negatives_before_positives(bits | ~image.label, positive_bit=0)
    return (at_or_below + below) / (2 * positives * negatives)


def _negatives_before_positives(keys: NDArray[np.uint32], *, positive_bit: int) -> int:
    """Sum over the positive keys of the number of negative keys that sort before them."""
    positive = (np.sort(keys) & 1) == positive_bit
    return int(np.cumsum(~positive, dtype=np.int64)[positive].sum())
