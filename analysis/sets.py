"""Metrics of sets of cases: a value a repetition, from the rows of what they are made of."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xferlab.metrics.metric import Metric
from xferlab.metrics.sets import (
    FUNCTIONS,
    Floats,
    Given,
    SetFunction,
    Weights,
    WithoutEach,
    terms_of,
)

_VALUES = ("value", "count", "truth")


class SetMeasure(NamedTuple):
    """A metric of sets as it is computed where cases have certain values: the mean over some terms.

    Attributes:
        metric: The metric.
        terms: Functions, each with the names of the values of a case that it takes.
    """

    metric: Metric
    terms: tuple[tuple[SetFunction, tuple[str, ...]], ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of all values that it takes."""
        return tuple(dict.fromkeys(name for _, names in self.terms for name in names))

    @property
    def truths(self) -> tuple[str, ...]:
        """The names of the true classes among them."""
        return tuple(dict.fromkeys(names[0] for _, names in self.terms))


class SetCases:
    """What is stored of cases, J repetitions of N, and in which of W sets they count."""

    def __init__(self, values: Mapping[str, Floats], weights: Weights):
        """Takes values (J, N) by name; what has no weight may be NaN."""
        self._values, self._weights = values, weights
        self._shared: dict[Hashable, Any] = {}

    def value(self, measure: SetMeasure) -> Floats:
        """Returns a metric of each set of each repetition, (J, W)."""
        terms = [function.finish(self._once(function, names)) for function, names in measure.terms]
        return np.asarray(np.mean(terms, axis=0))

    def _once(self, function: SetFunction, names: tuple[str, ...]) -> Any:
        key = function.prepare, names
        if key not in self._shared:
            truth, given = (np.nan_to_num(self._values[name]) for name in names)
            self._shared[key] = function.prepare(truth, given, self._weights)
        return self._shared[key]


class PairedSets:
    """The cases of two sides that are paired and kept, for all metrics of sets that keep the same."""

    def __init__(
        self, sides: Sequence[Mapping[str, Floats]], shown: NDArray[np.bool_], patients: NDArray[np.int64]
    ):
        """Takes the values (J, N) of each side by name, where they are shown, and the patients (N,)."""
        self.sides, self.shown, self.patients = sides, shown, patients
        weights = Given(shown[:, None].astype(np.float64))
        self._whole = [SetCases(side, weights) for side in sides]

    def differences(self, measure: SetMeasure) -> tuple[Floats, Floats]:
        """Returns the value of each repetition (J,), of both sides."""
        if not self.shown.size:
            return np.empty(0), np.empty(0)
        first, second = (side.value(measure)[:, 0] for side in self._whole)
        return first, second

    @cached_property
    def _left_out(self) -> list[SetCases]:
        """Both sides without each of the patients; all repetitions have all cases then."""
        weights = WithoutEach(self.patients)
        return [SetCases(side, weights) for side in self.sides]

    def without_each(self, measure: SetMeasure, defined: NDArray[np.bool_]) -> Floats:
        """Returns the difference of some J repetitions without each of the patients, (J, P)."""
        first, second = (side.value(measure)[defined] for side in self._left_out)
        return second - first

    def fewest_patients(self, measure: SetMeasure) -> int:
        """Returns the number of patients of the class that has fewest, of all true classes."""
        if not self.shown.size:
            return 0
        # A case need not be in every repetition of a test part; what it is does not change.
        truths = [np.where(self.shown, self.sides[0][name], -np.inf).max(axis=0) for name in measure.truths]
        counts = [
            len(np.unique(self.patients[truth == value])) for truth in truths for value in np.unique(truth)
        ]
        return min(counts, default=0)


def parts_of(metrics: Sequence[Metric]) -> frozenset[str]:
    """Returns the names of all values of a case that some metrics of sets are made of."""
    return frozenset(name for metric in metrics for name in metric.made_of)


@lru_cache(maxsize=64)
def measures_of(metrics: tuple[Metric, ...], known: frozenset[str]) -> tuple[SetMeasure, ...]:
    """Returns how metrics of sets are computed of cases that have values of these names.

    One over all classes is the mean over those that the cases have; one whose values they lack is left out.
    """
    return tuple(_measures(metrics, known))


def _measures(metrics: tuple[Metric, ...], known: frozenset[str]) -> Iterator[SetMeasure]:
    for metric, terms in terms_of(metrics, known):
        yield SetMeasure(metric, tuple((FUNCTIONS[term.computed_by], term.made_of) for term in terms))


def counted(cases: pd.DataFrame, metrics: Sequence[Metric]) -> pd.DataFrame:
    """Returns the rows without those that metrics of sets are made of, but the true classes, without values.

    These count the cases of the metrics.
    """
    if not metrics:
        return cases
    truths = frozenset(metric.made_of[0] for metric in metrics if metric.made_of)
    kept = cases[~cases["metric"].isin(parts_of(metrics) - truths)]
    return kept.assign(value=kept["value"].mask(kept["metric"].isin(truths)))


def set_values(cases: pd.DataFrame, metrics: Sequence[Metric], *, keys: Sequence[str]) -> pd.DataFrame:
    """Returns value, count of the cases it is made of, and name of the true class, by keys.

    A case with an undefined part is left out; a value that is undefined is made of none.
    """
    others = [key for key in keys if key not in ("metric", "repetition")]
    rows: list[tuple[object, ...]] = []
    parts = cases[cases["metric"].isin(parts_of(metrics))]
    for group, of_group in parts.groupby(others, observed=True, sort=False):
        repetitions, values = by_name(of_group)
        defined = {name: ~np.isnan(array) for name, array in values.items()}
        of_masks: dict[bytes, SetCases] = {}
        for measure in measures_of(tuple(metrics), frozenset(values)):
            kept = np.logical_and.reduce([defined[name] for name in measure.parts])
            set_cases = of_masks.setdefault(
                kept.tobytes(), SetCases(values, Given(kept[:, None].astype(np.float64)))
            )
            found = set_cases.value(measure)[:, 0]
            numbers = np.where(np.isnan(found), 0, kept.sum(axis=1))
            lines = zip(repetitions, found, numbers, strict=True)
            rows += [(*group, measure.metric.name, *line, measure.truths[0]) for line in lines]
    frame = pd.DataFrame(rows, columns=[*others, "metric", "repetition", *_VALUES])
    return frame.astype({"value": "float64", "count": "int64"})


def by_name(rows: pd.DataFrame) -> tuple[list[int], dict[str, Floats]]:
    """Returns the repetitions, and each value by name, (repetitions, cases); NaN where it is absent."""
    # Sorted, so that no order of rows changes a sum.
    codes, labels = zip(
        *(pd.factorize(rows[name].astype(object), sort=True) for name in ("metric", "repetition", "case")),
        strict=True,
    )
    values = np.full([len(names) for names in labels], np.nan)
    values[codes] = rows["value"]
    return list(labels[1]), dict(zip(labels[0], values, strict=True))


def with_sets(
    result: pd.DataFrame, cases: pd.DataFrame, metrics: Sequence[Metric], *, group: Sequence[str]
) -> pd.DataFrame:
    """Returns aggregated rows with a line for each metric of sets in place of the true classes.

    Args:
        result: Aggregated rows of what `counted` returns, indexed by `group`, `metric` among it.
        cases: The rows that they are of.
        metrics: The metrics of sets.
        group: Names of the keys.
    """
    rows = result.reset_index().astype(dict.fromkeys(group, object))
    others = [key for key in group if key != "metric"]
    values = set_values(cases, metrics, keys=[*others, "repetition", "metric"])
    by_group = values.groupby([*others, "metric"], observed=True, sort=False)
    reached = by_group.agg(
        mean=("value", "mean"),
        sd_repetitions=("value", "std"),
        num_defined=("count", "sum"),
        truth=("truth", "first"),
    )
    reached = reached.reset_index().astype(dict.fromkeys([*others, "metric", "truth"], object))
    counts = rows.drop(columns=["mean", "sd_repetitions", "num_defined"]).rename(columns={"metric": "truth"})
    computed = reached.merge(counts, on=[*others, "truth"], how="left").drop(columns="truth")
    kept = rows[~rows["metric"].isin(parts_of(metrics))]
    return pd.concat([kept, computed[rows.columns]], ignore_index=True).set_index(list(group))
