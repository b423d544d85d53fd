"""Metrics of sets of cases, from what is stored of each case; a `Metric` names the one it is `computed_by`.

A function takes two values of each case, the truth first, of J repetitions: arrays (J, N). Weights say how
often each case counts in each of W sets, so that a jackknife of all repetitions is one call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xferlab.metrics.calibration import NUM_BINS, bins_of
from xferlab.metrics.metric import Metric

Floats = NDArray[np.float64]
MACRO = "macro"
"""What a metric over several classes is `computed_by` that is the mean of that of each; NaN if one is NaN."""


class Weights(Protocol):
    """How often each of N cases counts in each of W sets."""

    def summed(self, values: NDArray[Any]) -> Floats:
        """Returns the weighted sums over cases of arrays (..., J, N): (..., J, W)."""
        ...

    def of(self, repetition: int) -> Floats:
        """Returns the weights of a repetition, (W, N)."""
        ...


@dataclass(frozen=True)
class Given:
    """Weights as they are given.

    Attributes:
        weights: (W, N), or (J, W, N) where they differ by repetition.
    """

    weights: Floats

    def summed(self, values: NDArray[Any]) -> Floats:
        """As of all weights."""
        numbers = values.astype(np.float64)
        if self.weights.ndim == 2:
            return np.asarray(numbers @ self.weights.T)
        return np.asarray((numbers[..., None, :] @ np.swapaxes(self.weights, -1, -2))[..., 0, :])

    def of(self, repetition: int) -> Floats:
        """As of all weights."""
        return self.weights if self.weights.ndim == 2 else self.weights[repetition]


class WithoutEach:
    """A set without each group of cases, in the order of their numbers."""

    def __init__(self, groups: NDArray[np.int64]):
        """Takes the number of the group of each case, shape (N,)."""
        self._order = np.argsort(groups, kind="stable")
        codes, self._starts = np.unique(groups[self._order], return_index=True)
        self._weights = (groups != codes[:, None]).astype(np.float64)

    def summed(self, values: NDArray[Any]) -> Floats:
        """As of all weights: all cases less those of the group, which takes no product."""
        numbers = values.astype(np.float64)
        left_out = np.add.reduceat(numbers[..., self._order], self._starts, axis=-1)
        return np.asarray(numbers.sum(axis=-1, keepdims=True) - left_out)

    def of(self, repetition: int) -> Floats:
        """As of all weights; equal in all repetitions."""
        return np.asarray(self._weights)


@dataclass(frozen=True)
class SetFunction:
    """A metric of a set of cases.

    Attributes:
        prepare: Takes truth (J, N), the other value (J, N) and weights, and returns what several functions
            share.
        finish: Takes that, and returns the values (J, W); NaN where undefined.
    """

    prepare: Callable[[Floats, Floats, Weights], Any]
    finish: Callable[[Any], Floats]

    def __call__(self, truth: Floats, given: Floats) -> float:
        """Returns the value of one set, from arrays (N,)."""
        return float(
            self.finish(self.prepare(truth[None], given[None], Given(np.ones((1, len(truth))))))[0, 0]
        )


@dataclass(frozen=True)
class Counts:
    """Cases by what they are and are called, each (J, W)."""

    tp: Floats
    fp: Floats
    fn: Floats
    tn: Floats


def counts(truth: Floats, called: Floats, weights: Weights) -> Counts:
    """Returns the confusion of a class (1) and the rest (0)."""
    is_so, called_so = truth == 1, called == 1
    kinds = (is_so & called_so, ~is_so & called_so, is_so & ~called_so, ~is_so & ~called_so)
    return Counts(*weights.summed(np.stack(kinds)))


@dataclass(frozen=True)
class Ranked:
    """How many cases of a class, and how many others, have each score, a repetition each: (W, scores)."""

    positives: list[Floats]
    negatives: list[Floats]


def ranked(truth: Floats, score: Floats, weights: Weights) -> Ranked:
    """Returns the cases by their score, the lowest first."""
    found = Ranked([], [])
    for number, (labels, scores) in enumerate(zip(truth, score, strict=True)):
        order = np.argsort(scores, kind="stable")
        starts = np.unique(scores[order], return_index=True)[1]
        counted = weights.of(number)[:, order]
        positive = counted * (labels[order] == 1)
        for groups, values in ((found.positives, positive), (found.negatives, counted - positive)):
            groups.append(np.add.reduceat(values, starts, axis=1) if len(starts) else values)
    return found


def told(truth: Floats, called: Floats, weights: Weights) -> tuple[Floats, Floats]:
    """Returns how many cases each class has, and how many of these are told right, (K, J, W) each.

    The classes are numbers, as many as there are.
    """
    classes = np.unique(truth)[:, None, None]
    is_class = truth == classes
    return weights.summed(is_class), weights.summed(is_class & (called == truth))


def gaps(truth: Floats, score: Floats, weights: Weights) -> tuple[Floats, Floats]:
    """Returns the sum of probability - truth in each of `NUM_BINS` bins, (B, J, W), and how many cases."""
    in_bins = (bins_of(score) == np.arange(NUM_BINS)[:, None, None]) * (score - truth)
    return weights.summed(in_bins), weights.summed(np.ones_like(truth))


def accuracy(right: tuple[Floats, Floats]) -> Floats:
    """Share of the cases whose class is told right, in [0, 1]; NaN of no cases."""
    return _ratio(right[1].sum(axis=0), right[0].sum(axis=0))


def balanced_accuracy(right: tuple[Floats, Floats]) -> Floats:
    """Mean over the true classes of the share of each that is told right, in [0, 1].

    NaN where the cases are of one class (Brodersen et al. 2010).
    """
    num = (right[0] > 0).sum(axis=0).astype(np.float64)
    shares = np.nan_to_num(_ratio(right[1], right[0])).sum(axis=0)
    return _ratio(shares, np.where(num > 1, num, 0))


def sensitivity(counts: Counts) -> Floats:
    """TP / (TP + FN), in [0, 1]; NaN where no case is of the class."""
    return _ratio(counts.tp, counts.tp + counts.fn)


def specificity(counts: Counts) -> Floats:
    """TN / (TN + FP), in [0, 1]; NaN where all cases are of the class."""
    return _ratio(counts.tn, counts.tn + counts.fp)


def precision(counts: Counts) -> Floats:
    """TP / (TP + FP), in [0, 1]; NaN where no case is called so."""
    return _ratio(counts.tp, counts.tp + counts.fp)


def f1(counts: Counts) -> Floats:
    """2 TP / (2 TP + FP + FN), in [0, 1]; NaN where no case is of the class and none is called so."""
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def roc_auc(ranked: Ranked) -> Floats:
    """Area under the ROC curve, exact: the Mann-Whitney statistic, with ties counting half (Bradley 1997).

    In [0, 1]; NaN where there are no cases of one kind.
    """
    return np.stack(list(map(_area, ranked.positives, ranked.negatives)))


def _area(positives: Floats, negatives: Floats) -> Floats:
    below = np.cumsum(negatives, axis=1) - negatives / 2
    return _ratio((positives * below).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))


def average_precision(ranked: Ranked) -> Floats:
    """Mean over the cases of the class of the precision at their score, in [0, 1].

    That is the sum over thresholds of (R_n - R_n-1) P_n, without interpolation. NaN where no case is of the
    class.
    """
    return np.stack(list(map(_average_precision, ranked.positives, ranked.negatives)))


def _average_precision(positives: Floats, negatives: Floats) -> Floats:
    found = np.cumsum(positives[:, ::-1], axis=1)
    called = found + np.cumsum(negatives[:, ::-1], axis=1)
    precisions = found / np.where(called > 0, called, 1)
    return _ratio((positives[:, ::-1] * precisions).sum(axis=1), positives.sum(axis=1))


def expected_calibration_error(gaps: tuple[Floats, Floats]) -> Floats:
    """Mean over cases of |mean probability - frequency of the class| in their bin (Guo et al. 2017, eq. 3).

    The bins are equal ones on [0, 1]; 1 belongs to the last. In [0, 1]; NaN of no cases.
    """
    return _ratio(np.abs(gaps[0]).sum(axis=0), gaps[1])


FUNCTIONS: Mapping[str, SetFunction] = {
    "accuracy": SetFunction(told, accuracy),
    "average_precision": SetFunction(ranked, average_precision),
    "balanced_accuracy": SetFunction(told, balanced_accuracy),
    "expected_calibration_error": SetFunction(gaps, expected_calibration_error),
    "f1": SetFunction(counts, f1),
    "precision": SetFunction(counts, precision),
    "roc_auc": SetFunction(ranked, roc_auc),
    "sensitivity": SetFunction(counts, sensitivity),
    "specificity": SetFunction(counts, specificity),
}


def terms_of(metrics: Iterable[Metric], known: Collection[str]) -> Iterator[tuple[Metric, list[Metric]]]:
    """Yields each metric of sets with those whose mean it is: itself, or of one over all classes theirs.

    Args:
        metrics: Metrics, of sets and of cases.
        known: The names of the values that cases have; what lacks some is left out.
    """
    metrics = list(metrics)
    computed = [metric for metric in metrics if metric.made_of and set(metric.made_of) <= set(known)]
    for metric in metrics:
        if metric.computed_by == MACRO:
            terms = [each for each in computed if each.of and each.whole == metric.name]
        else:
            terms = [metric] if metric in computed else []
        if terms:
            yield metric, terms


def values_of(metrics: Iterable[Metric], values: Mapping[str, Floats]) -> dict[str, float]:
    """Returns the metrics of one set of cases by name.

    Args:
        metrics: Metrics, of sets and of cases.
        values: The values of the N cases by name, (N,); a case with an undefined one that a metric is made
            of is left out of it.
    """
    found = {}
    for metric, terms in terms_of(metrics, values):
        parts = [values[name] for term in terms for name in term.made_of]
        kept = ~np.isnan(np.stack(parts)).any(axis=0)
        each = [FUNCTIONS[term.computed_by](*(values[name][kept] for name in term.made_of)) for term in terms]
        found[metric.name] = float(np.mean(each))
    return found


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)
