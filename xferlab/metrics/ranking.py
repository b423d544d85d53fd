"""Area under the ROC curve, exact."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from xferlab.metrics.image import ScoredImage
from xferlab.metrics.metric import VIDAL, ImageMetric

Outputs = NDArray[np.float32]


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
    # Only outputs between the lowest of the target and the highest of the background can be out of order, so
    # only these are sorted.
    target, background = image.probability[image.label], image.probability[~image.label]
    twice_missed = _twice_missed(target[target <= background.max()], background[background >= target.min()])
    return (2 * positives * negatives - twice_missed) / (2 * positives * negatives)


def _twice_missed(target: Outputs, background: Outputs) -> int:
    """Twice the number of pairs whose background pixel has the higher output, ties counting half."""
    # The bits of non-negative floats order as the floats do. Shifting out the sign (set in -0.0) makes room
    # for the class, so that an integer sort ranks all pixels, in a tie the background first.
    one = np.uint32(1)
    ranked = np.concatenate([background.view(np.uint32) << one, target.view(np.uint32) << one | one])
    ranked.sort()
    places = np.flatnonzero(ranked & one)
    num_before = int(places.sum()) - len(target) * (len(target) - 1) // 2
    # In a tie of both classes, one background pixel stands right before a target pixel.
    last = np.flatnonzero((ranked[:-1] ^ ranked[1:]) == 1)
    start, stop = np.searchsorted(ranked, ranked[last]), np.searchsorted(ranked, ranked[last + 1], "right")
    num_tied = int(((last + 1 - start) * (stop - last - 1)).sum())
    return 2 * (len(target) * len(background) - num_before) + num_tied
