"""Metrics of sets of cases: a value a repetition, from the rows of what they are made of."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from xferlab.metrics.metric import Metric
from xferlab.metrics.sets import FUNCTIONS, SetFunction, mean_of

_VALUES = ("value", "count", "truth")


class SetMeasure(NamedTuple):
    """A metric of sets as it is computed where cases have certain values.

    Attributes:
        metric: The metric.
        parts: Names of the values of a case that its function takes, in order.
        truths: Positions of the true classes among them.
        function: Takes the parts.
    """

    metric: Metric
    parts: tuple[str, ...]
    truths: tuple[int, ...]
    function: SetFunction


def parts_of(metrics: Sequence[Metric]) -> frozenset[str]:
    """Returns the names of all values of a case that some metrics of sets are made of."""
    return frozenset(name for metric in metrics for name in metric.made_of)


@lru_cache(maxsize=64)
def measures_of(metrics: tuple[Metric, ...], known: frozenset[str]) -> tuple[SetMeasure, ...]:
    """Returns how metrics of sets are computed of cases that have values of these names.

    One over all classes is the mean over those that the cases have; one whose values they lack is left out.
    """
    return tuple(_measures(metrics, known))


def _measures(metrics: tuple[Metric, ...], known: Collection[str]) -> Iterator[SetMeasure]:
    computed = [metric for metric in metrics if metric.made_of and set(metric.made_of) <= set(known)]
    for metric in metrics:
        if metric.made_of:
            terms = [metric] if metric in computed else []
        else:
            terms = [each for each in computed if each.of and each.whole == metric.name]
        if terms:
            parts = tuple(dict.fromkeys(name for term in terms for name in term.made_of))
            places = [tuple(parts.index(name) for name in term.made_of) for term in terms]
            functions = [FUNCTIONS[term.computed_by] for term in terms]
            function = mean_of(list(zip(functions, places, strict=True)))
            truths = tuple(dict.fromkeys(place[0] for place in places))
            yield SetMeasure(metric, parts, truths, functions[0] if metric.made_of else function)


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
    """Returns value, count of the cases it is made of, and name of the true class, by keys, `metric` last.

    A case with an undefined part is left out; a value that is undefined is made of none.
    """
    others = [key for key in keys if key != "metric"]
    rows: list[tuple[object, ...]] = []
    parts = cases[cases["metric"].isin(parts_of(metrics))]
    for group, of_group in parts.groupby(others, observed=True, sort=False):
        names, values = _wide(of_group)
        for measure in measures_of(tuple(metrics), frozenset(names)):
            chosen = values[:, [names.index(name) for name in measure.parts]]
            chosen = chosen[~np.isnan(chosen).any(axis=1)]
            value = measure.function(*chosen.T)
            num = 0 if np.isnan(value) else len(chosen)
            rows.append((*group, measure.metric.name, value, num, measure.parts[measure.truths[0]]))
    frame = pd.DataFrame(rows, columns=[*others, "metric", *_VALUES])
    return frame.astype({"value": "float64", "count": "int64"})


def _wide(rows: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    """Returns the names of the values, and an array (cases, names); NaN where a case lacks a value."""
    # Sorted, so that no order of rows changes a sum.
    case, cases = pd.factorize(rows["case"].astype(object), sort=True)
    metric, names = pd.factorize(rows["metric"].astype(object), sort=True)
    values = np.full((len(cases), len(names)), np.nan)
    values[case, metric] = rows["value"]
    return list(names), values


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
