"""ROC and precision-recall curves of a set of cases, exact, and thresholds that a set of cases gives.

Truths are arrays (N,), 1 where a case is of the class and 0 elsewhere; scores (N,) are higher where it is
more likely. A case is called so where its score is at least a threshold; every score is a threshold.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xferlab.metrics.calibration import NUM_BINS, bins_of

Floats = NDArray[np.float64]


class Called(NamedTuple):
    """Shares of the cases that are called so, threshold by threshold from the highest down.

    Attributes:
        thresholds: The scores, each once, shape (T,).
        sensitivity: Share of the class, (T,); NaN where no case is of it.
        false_positive_rate: Share of the others, (T,); NaN where there are none.
        precision: Share of those called so that are of the class, (T,).
    """

    thresholds: Floats
    sensitivity: Floats
    false_positive_rate: Floats
    precision: Floats


def called(truth: Floats, score: Floats) -> Called:
    """Returns what each threshold gives."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=-np.inf))  # of equal scores
    positive = truth[order] == 1
    true, false = (np.cumsum(kind, dtype=np.float64)[last] for kind in (positive, ~positive))
    with np.errstate(invalid="ignore"):
        return Called(
            score[order][last].astype(np.float64),
            true / positive.sum(),
            false / (~positive).sum(),
            true / (true + false),
        )


def roc_at(truth: Floats, score: Floats, false_positive_rates: Floats) -> Floats:
    """Returns the sensitivity of the ROC curve at given false positive rates, ascending in [0, 1].

    The curve joins what neighbouring thresholds give by straight lines, so that ties count half, as in its
    area. At a vertical step, the upper end counts. NaN without cases of both kinds.
    """
    points = called(truth, score)
    x, y = (np.concatenate([[0.0], values]) for values in (points.false_positive_rate, points.sensitivity))
    if len(x) == 1 or np.isnan(x).any() or np.isnan(y).any():
        return np.full(len(false_positive_rates), np.nan)
    before = np.searchsorted(x, false_positive_rates, side="right") - 1
    after = np.minimum(before + 1, len(x) - 1)
    step = x[after] - x[before]
    part = np.divide(false_positive_rates - x[before], step, out=np.zeros_like(step), where=step > 0)
    return np.asarray(y[before] + part * (y[after] - y[before]))


def precision_at(truth: Floats, score: Floats, sensitivities: Floats) -> Floats:
    """Returns the precision at given sensitivities, in [0, 1]: that of the highest threshold that reaches it.

    That is the step function of which average precision is the area; at 0, it is what is right of it. NaN
    where no case is of the class.
    """
    points = called(truth, score)
    if np.isnan(points.sensitivity).any() or not len(points.thresholds):
        return np.full(len(sensitivities), np.nan)
    # A share that a grid and a division round differently is the same.
    place = np.searchsorted(points.sensitivity, np.maximum(sensitivities - 1e-12, 1e-12), side="left")
    return np.asarray(points.precision[place])


def reliability(truth: Floats, score: Floats) -> tuple[Floats, Floats]:
    """Returns the mean probability and the share of the class in each of `NUM_BINS` bins, (B,) each.

    The bins are those of the calibration error: equal ones on [0, 1], of which 1 belongs to the last. NaN in
    a bin without cases.
    """
    bins = bins_of(score)
    weights = (np.ones_like(score), score, truth)
    num, given, true = (np.bincount(bins, weights=each, minlength=NUM_BINS) for each in weights)
    with np.errstate(invalid="ignore"):
        return given / num, true / num


def youden_threshold(truth: Floats, score: Floats) -> float:
    """Returns the threshold with the largest sensitivity + specificity (Youden 1950), the highest of several.

    NaN without cases of both kinds.
    """
    points = called(truth, score)
    gains = points.sensitivity - points.false_positive_rate
    return (
        float("nan") if np.isnan(gains).any() or not len(gains) else float(points.thresholds[gains.argmax()])
    )


def sensitive_threshold(truth: Floats, score: Floats, sensitivity: float) -> float:
    """Returns the highest threshold that reaches a sensitivity in (0, 1]; NaN without cases of the class."""
    points = called(truth, score)
    if np.isnan(points.sensitivity).any() or not len(points.thresholds):
        return float("nan")
    return float(points.thresholds[np.argmax(points.sensitivity >= sensitivity - 1e-12)])
