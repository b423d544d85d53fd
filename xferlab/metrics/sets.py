"""Metrics of a set of cases, from what is stored of each case; a `Metric` names the one it is `computed_by`.

A function takes arrays (N,), the truth of each case first, and weights (W, N): how often each case counts in
each of W sets. So a jackknife is one call. Called without weights, it takes each case once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xferlab.metrics.calibration import NUM_BINS

Floats = NDArray[np.float64]
MACRO = "macro"
"""What a metric over several classes is `computed_by` that is the mean of that of each; NaN if one is NaN."""


@dataclass(frozen=True)
class SetFunction:
    """A metric of a set of cases; `@SetFunction` makes one of its function.

    Attributes:
        weighted: Takes arrays (N,) and weights (W, N), and returns the values (W,); NaN where undefined.
    """

    weighted: Callable[..., Floats]

    def __call__(self, *parts: Floats) -> float:
        """Returns the value of the set in which each case counts once."""
        return float(self.weighted(*parts, np.ones((1, len(parts[0]))))[0])


@SetFunction
def accuracy(truth: Floats, called: Floats, weights: Floats) -> Floats:
    """Share of the cases whose class is told right, in [0, 1]; NaN of no cases."""
    return _ratio(weights @ (truth == called), weights.sum(axis=1))


@SetFunction
def sensitivity(truth: Floats, called: Floats, weights: Floats) -> Floats:
    """TP / (TP + FN), in [0, 1], of classes told by 1 and 0; NaN where no case is of the class."""
    counts = _counts(truth, called, weights)
    return _ratio(counts.tp, counts.tp + counts.fn)


@SetFunction
def specificity(truth: Floats, called: Floats, weights: Floats) -> Floats:
    """TN / (TN + FP), in [0, 1]; NaN where all cases are of the class."""
    counts = _counts(truth, called, weights)
    return _ratio(counts.tn, counts.tn + counts.fp)


@SetFunction
def precision(truth: Floats, called: Floats, weights: Floats) -> Floats:
    """TP / (TP + FP), in [0, 1]; NaN where no case is called so."""
    counts = _counts(truth, called, weights)
    return _ratio(counts.tp, counts.tp + counts.fp)


@SetFunction
def f1(truth: Floats, called: Floats, weights: Floats) -> Floats:
    """2 TP / (2 TP + FP + FN), in [0, 1]; NaN where no case is of the class and none is called so."""
    counts = _counts(truth, called, weights)
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


@SetFunction
def balanced_accuracy(truth: Floats, called: Floats, weights: Floats) -> Floats:
    """Mean over the true classes of the share of each that is told right, in [0, 1].

    The classes are numbers, as many as there are. NaN where the cases are of one class.
    """
    classes = np.unique(truth)[:, None]
    of_class = weights @ (truth == classes).T
    right = weights @ ((truth == classes) & (called == truth)).T
    there = of_class > 0
    shares = np.where(there, right / np.where(there, of_class, 1), 0)
    num = there.sum(axis=1)
    return _ratio(np.where(num > 1, shares.sum(axis=1), 0), np.where(num > 1, num, 0))


@SetFunction
def roc_auc(truth: Floats, score: Floats, weights: Floats) -> Floats:
    """Area under the ROC curve, exact: the Mann-Whitney statistic, with ties counting half (Bradley 1997).

    Args:
        truth: 1 where a case is of the class and 0 elsewhere.
        score: Higher where the class is more likely.
        weights: How often each case counts.

    Returns:
        Values in [0, 1]; NaN where there are no cases of one kind.
    """
    positives, negatives = _by_score(truth, score, weights)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    return _ratio((positives * below).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))


@SetFunction
def average_precision(truth: Floats, score: Floats, weights: Floats) -> Floats:
    """Mean over the cases of the class of the precision at their score, in [0, 1].

    That is the sum over thresholds of (R_n - R_n-1) P_n, without interpolation. NaN where no case is of the
    class.
    """
    positives, negatives = (counts[:, ::-1] for counts in _by_score(truth, score, weights))
    found = np.cumsum(positives, axis=1)
    called = found + np.cumsum(negatives, axis=1)
    precisions = found / np.where(called > 0, called, 1)
    return _ratio((positives * precisions).sum(axis=1), positives.sum(axis=1))


@SetFunction
def expected_calibration_error(truth: Floats, score: Floats, weights: Floats) -> Floats:
    """Mean over cases of |mean probability - frequency of the class| in their bin (Guo et al. 2017, eq. 3).

    The bins are `NUM_BINS` equal ones on [0, 1]; 1 belongs to the last. In [0, 1]; NaN of no cases.
    """
    bins = np.minimum((score * NUM_BINS).astype(np.intp), NUM_BINS - 1)
    gaps = weights @ ((score - truth)[:, None] * (bins[:, None] == np.arange(NUM_BINS)))
    return _ratio(np.abs(gaps).sum(axis=1), weights.sum(axis=1))


FUNCTIONS: Mapping[str, SetFunction] = {
    "accuracy": accuracy,
    "average_precision": average_precision,
    "balanced_accuracy": balanced_accuracy,
    "expected_calibration_error": expected_calibration_error,
    "f1": f1,
    "precision": precision,
    "roc_auc": roc_auc,
    "sensitivity": sensitivity,
    "specificity": specificity,
}


@dataclass(frozen=True)
class _Counts:
    """Cases (W,) by what they are and are called."""

    tp: Floats
    fp: Floats
    fn: Floats
    tn: Floats


def _counts(truth: Floats, called: Floats, weights: Floats) -> _Counts:
    is_so, called_so = truth == 1, called == 1
    kinds = (is_so & called_so, ~is_so & called_so, is_so & ~called_so, ~is_so & ~called_so)
    return _Counts(*(weights @ np.stack(kinds, axis=1).astype(np.float64)).T)


def _by_score(truth: Floats, score: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Returns how many cases of the class, and how many others, have each score: (W, scores), upwards."""
    order = np.argsort(score, kind="stable")
    _, starts = np.unique(score[order], return_index=True)
    positive = (truth == 1).astype(np.float64)
    positives, negatives = (
        np.add.reduceat((weights * of_kind)[:, order], starts, axis=1) if len(starts) else weights
        for of_kind in (positive, 1 - positive)
    )
    return positives, negatives


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def mean_of(terms: Sequence[tuple[SetFunction, Sequence[int]]]) -> SetFunction:
    """Returns the mean of several functions, NaN where one of them is.

    Args:
        terms: Each function with the positions of its arrays among those that the mean takes.
    """

    def weighted(*given: Floats) -> Floats:
        *parts, weights = given
        values = [
            function.weighted(*(parts[place] for place in places), weights) for function, places in terms
        ]
        return np.asarray(np.mean(values, axis=0))

    return SetFunction(weighted)
