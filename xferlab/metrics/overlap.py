"""Metrics of the confusion matrix, soft Dice, and Dice by pixel.

Empty policy: a ratio whose denominator is 0 is 1 if the class is absent from prediction and target, and 0 if
it is absent from one of them only. So every image counts, and a missed or invented object is never dropped
from a mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from xferlab.metrics.image import ScoredImage
from xferlab.metrics.metric import GARZON, OH, VIDAL, ImageMetric

UNDERSEGMENTED_BELOW = 0.75
"""Share of the target's area: below it, more than a quarter is missing."""
_PER_CLASS = "Per class: 1 if the class is absent from both masks, 0 if it is absent from one."


@dataclass(frozen=True)
class Confusion:
    """Counts of pixels, seen from one class.

    Attributes:
        tp: Of the class, and predicted so.
        fp: Predicted as the class, and not of it.
        fn: Of the class, and not predicted so.
        tn: Neither.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def other(self) -> Confusion:
        """The same counts seen from the other class."""
        return Confusion(tp=self.tn, fp=self.fn, fn=self.fp, tn=self.tp)

    def precision(self) -> float:
        """TP / (TP + FP); empty policy of this module."""
        return self._ratio(self.tp, self.tp + self.fp)

    def recall(self) -> float:
        """TP / (TP + FN); empty policy of this module."""
        return self._ratio(self.tp, self.tp + self.fn)

    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN), which is also F1; empty policy of this module."""
        return self._ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    def jaccard(self) -> float:
        """TP / (TP + FP + FN); empty policy of this module."""
        return self._ratio(self.tp, self.tp + self.fp + self.fn)

    def _ratio(self, part: int, whole: int) -> float:
        if whole:
            return part / whole
        return 0.0 if self.tp + self.fp + self.fn else 1.0


def confusion(image: ScoredImage) -> Confusion:
    """Counts the pixels of `image`, seen from the target class."""
    return confusion_of(image.prediction, image.target, total=image.label.size)


def confusion_of(prediction: NDArray[np.bool_], target: NDArray[np.bool_], *, total: int) -> Confusion:
    """Counts the pixels of two masks of one shape, of `total` that count: those of a mask all do."""
    predicted, actual = int(np.count_nonzero(prediction)), int(np.count_nonzero(target))
    tp = int(np.count_nonzero(prediction & target))
    return Confusion(tp=tp, fp=predicted - tp, fn=actual - tp, tn=total - predicted - actual + tp)


@partial(
    ImageMetric,
    name="ACC",
    label="Accuracy",
    better="higher",
    source=f"{VIDAL}, eq. 2",
    definition="Fraction of pixels whose predicted class is the target's.",
)
def accuracy(image: ScoredImage) -> float:
    """(TP + TN) / all pixels, in [0, 1] (vidal2021, eq. 2)."""
    counts = image.once(confusion)
    return (counts.tp + counts.tn) / image.label.size


@partial(
    ImageMetric,
    name="DICE",
    label="Dice",
    better="higher",
    source=f"{VIDAL}, eq. 3, on the thresholded output",
    prominence="main",
    margin=0.01,
    definition="2 TP / (2 TP + FP + FN).",
    undefined="1 if both masks are empty, 0 if one is.",
)
def dice(image: ScoredImage) -> float:
    """Dice of the masks, in [0, 1] (vidal2021, eq. 3); both empty 1, one empty 0."""
    return image.once(confusion).dice()


@partial(
    ImageMetric,
    name="JACC",
    label="Jaccard",
    better="higher",
    source=f"{VIDAL}, eq. 4, on the thresholded output",
    prominence="headline",
    margin=0.01,
    definition="TP / (TP + FP + FN).",
    undefined="1 if both masks are empty, 0 if one is.",
)
def jaccard(image: ScoredImage) -> float:
    """Jaccard of the masks, in [0, 1] (vidal2021, eq. 4); both empty 1, one empty 0."""
    return image.once(confusion).jaccard()


@partial(
    ImageMetric,
    name="JACC_SMOOTH",
    label="Jaccard, smoothed",
    better="higher",
    source=f"{OH}, as its code computes Jaccard",
    margin=0.01,
    definition="(TP + 1) / (TP + FP + FN + 1).",
)
def jaccard_smooth(image: ScoredImage) -> float:
    """(TP + 1) / (TP + FP + FN + 1), in (0, 1] (code of oh2020); both masks empty 1, one empty above 0."""
    counts = image.once(confusion)
    return (counts.tp + 1) / (counts.tp + counts.fp + counts.fn + 1)


@partial(
    ImageMetric,
    name="AREA_RATIO",
    label="Area ratio",
    better=None,
    source=f"{OH}, section V-F, in numbers",
    definition="(TP + FP) / (TP + FN): predicted pixels for each pixel of the target.",
    undefined="NaN if the target is empty.",
)
def area_ratio(image: ScoredImage) -> float:
    """(TP + FP) / (TP + FN), 0 or more; NaN if the target is empty."""
    counts = image.once(confusion)
    area = counts.tp + counts.fn
    return (counts.tp + counts.fp) / area if area else float("nan")


@partial(
    ImageMetric,
    name="UNDERSEGMENTED",
    label="Under-segmented",
    better="lower",
    source=f"{OH}, section V-F, where it is judged by eye",
    definition=f"1 if AREA_RATIO is below {UNDERSEGMENTED_BELOW}, else 0.",
    undefined="NaN if the target is empty.",
)
def undersegmented(image: ScoredImage) -> float:
    """1 if fewer than 3/4 of the target's number of pixels are predicted, else 0; NaN if it is empty.

    oh2020 (section V-F) calls lungs so of which more than a quarter is deformed, as judged by eye.
    """
    ratio = image.once(area_ratio.function)
    return ratio if ratio != ratio else float(ratio < UNDERSEGMENTED_BELOW)


@partial(
    ImageMetric,
    name="PREC",
    label="Precision (macro)",
    better="higher",
    source=f"{VIDAL}, eq. 5 and footnote 5",
    definition="Mean of the target's and the background's TP / (TP + FP).",
    undefined=_PER_CLASS,
)
def macro_precision(image: ScoredImage) -> float:
    """Mean precision of target class and background class, in [0, 1] (vidal2021, eq. 5, footnote 5)."""
    counts = image.once(confusion)
    return (counts.precision() + counts.other.precision()) / 2


@partial(
    ImageMetric,
    name="RECA",
    label="Recall (macro)",
    better="higher",
    source=f"{VIDAL}, eq. 6 and footnote 5",
    definition="Mean of the target's and the background's TP / (TP + FN): of SENS and SPEC.",
    undefined=_PER_CLASS,
)
def macro_recall(image: ScoredImage) -> float:
    """Mean recall of target class and background class, in [0, 1] (vidal2021, eq. 6, footnote 5)."""
    counts = image.once(confusion)
    return (counts.recall() + counts.other.recall()) / 2


@partial(
    ImageMetric,
    name="F1",
    label="F1 score (macro)",
    better="higher",
    source=f"{VIDAL}, eq. 7 and footnote 5",
    definition="Mean of the target's and the background's 2 TP / (2 TP + FP + FN).",
    undefined=_PER_CLASS,
)
def macro_f1(image: ScoredImage) -> float:
    """Mean F1 of target class and background class, in [0, 1] (vidal2021, eq. 7, footnote 5)."""
    counts = image.once(confusion)
    return (counts.dice() + counts.other.dice()) / 2


@partial(
    ImageMetric,
    name="SENS",
    label="Sensitivity",
    better="higher",
    source=f"{VIDAL}, eq. 8",
    prominence="headline",
    definition="TP / (TP + FN): fraction of the target that is predicted.",
    undefined="1 if both masks are empty, 0 if only the target is.",
)
def sensitivity(image: ScoredImage) -> float:
    """Recall of the target class, in [0, 1] (vidal2021, eq. 8); none: 1 if none is predicted, else 0."""
    return image.once(confusion).recall()


@partial(
    ImageMetric,
    name="SPEC",
    label="Specificity",
    better="higher",
    source=f"{VIDAL}, eq. 9",
    prominence="headline",
    definition="TN / (TN + FP): fraction of the background that is predicted as background.",
    undefined="1 if neither mask has background, 0 if only the target has none.",
)
def specificity(image: ScoredImage) -> float:
    """Recall of the background, in [0, 1] (vidal2021, eq. 9); none: 1 if none is predicted, else 0."""
    return image.once(confusion).other.recall()


@partial(
    ImageMetric,
    name="SOFT_DICE",
    label="Soft Dice",
    better="higher",
    source=f"{VIDAL}, eq. 3, on the continuous output",
    definition="2 sum(p t) / (sum p + sum t), p the output and t the target, without threshold.",
    undefined="1 if output and target are 0 everywhere.",
)
def soft_dice(image: ScoredImage) -> float:
    """2 sum(p t) / (sum p + sum t), in [0, 1], summed in float64 (vidal2021, eq. 3); 0/0 is 1."""
    mass = float(image.probability.sum(dtype=np.float64))
    both = float(image.probability[image.label].sum(dtype=np.float64))
    whole = mass + np.count_nonzero(image.label)
    return 2 * both / whole if whole else 1.0


@partial(
    ImageMetric,
    name="DICE_PIXELWISE",
    label="Dice by pixel",
    better="higher",
    source=f"{GARZON}, as its code computes Dice",
    definition="Mean over all pixels of (2 p t + 1) / (p^2 + t^2 + 1), p the output and t the target. The "
    "background counts, too: it is at least 0.5, and no Dice.",
)
def dice_pixelwise(image: ScoredImage) -> float:
    """Mean over pixels of (2 p t + 1) / (p^2 + t^2 + 1), in [0.5, 1], in float64.

    The code of arias-garzon2021 sums over the channels of a pixel, of which there is one, and adds 1 to both
    sums. A pixel of the background gives 1 / (1 + p^2).
    """
    output, target = image.probability.astype(np.float64), image.label.astype(np.float64)
    return float(np.mean((2 * output * target + 1) / (output**2 + target + 1)))  # t^2 = t
