"""Metrics of sets of cases: a value a repetition, from the rows of what they are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from xferlab.metrics.metric import Metric
from xferlab.metrics.sets import FUNCTIONS


def with_sets(cases: pd.DataFrame, metrics: Sequence[Metric]) -> pd.DataFrame:
    """Returns a row a case for each metric of a set, without value, in place of what they are made of."""
    if not metrics:
        return cases
    parts = {name for metric in metrics for name in metric.made_of}
    counted = [
        cases[cases["metric"] == metric.made_of[0]].assign(metric=metric.name, value=np.nan)
        for metric in metrics
    ]
    return pd.concat([cases[~cases["metric"].isin(parts)], *counted], ignore_index=True)


def set_values(cases: pd.DataFrame, metrics: Sequence[Metric], *, keys: Sequence[str]) -> pd.DataFrame:
    """Returns mean (the value) and count (of the cases it is made of), indexed by keys, `metric` among them.

    A case with an undefined part is left out.
    """
    others = [key for key in keys if key != "metric"]
    rows: list[tuple[object, ...]] = []
    for metric in metrics:
        parts = cases[cases["metric"].isin(metric.made_of)].astype({"metric": object})
        wide = parts.pivot(index=[*others, "case"], columns="metric", values="value").dropna()
        for group, values in wide.groupby(level=others, observed=True, sort=False):
            value = FUNCTIONS[metric.computed_by](*(values[name].to_numpy() for name in metric.made_of))
            rows.append((*group, metric.name, value, len(values)))
    return pd.DataFrame(rows, columns=[*others, "metric", "mean", "count"]).set_index(list(keys))
