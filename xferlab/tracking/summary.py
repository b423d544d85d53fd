"""The final values of a trial's run: numbers by name, from its records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from xferlab.records.schema import EpochResult, TrialRecord

Values = Mapping[str, NDArray[np.float64]]
"""Values of the N cases of a set by name, (N,) each; NaN where a case has none."""

_TEXTS = ("case", "simulated", "pathology", "metric")
_NO_PATHOLOGY = "all"
"""The pathology of images whose data section names none."""


@dataclass(frozen=True)
class Headline:
    """What a summary says of a task's metrics beyond the mean of each over the cases.

    Attributes:
        metric: The metric of a case that is also given by pathology; empty for none.
        of_sets: Returns the metrics of a set of cases by name, such as AUC.
        parts: Names of the values that those are made of; their means would say nothing.
        main: Names of the metrics over all targets that stand in tables and figures of many arms.
    """

    metric: str = ""
    of_sets: Callable[[Values], Mapping[str, float]] = lambda values: {}
    parts: frozenset[str] = frozenset()
    main: tuple[str, ...] = ()


def trial_summary(
    record: TrialRecord,
    epochs: Iterable[EpochResult],
    cases: Mapping[str, pa.Table],
    *,
    headline: Headline | None = None,
) -> dict[str, float]:
    """Returns a trial's final values.

    Args:
        record: Its record.
        epochs: All of its epochs, in order.
        cases: Rows of its evaluations (`CASES_SCHEMA`) by `EvaluationSpec.read_name`: `section.part`, or
            `section@arm.part` for data that an arm has under that name.
        headline: What is said of its task's metrics.

    Returns:
        Best epoch, its score, hours of training and validation, and `section.part/metric`: the mean over the
        images where the metric is defined (NaN where it is nowhere), or the value of a metric of sets, of
        those images that a gate let pass if there is one. The headline's metrics also of each pathology,
        where they are defined, under `section.part/metric/pathology`. Images of a simulated device apart,
        under `section.part/device/metric`.
    """
    values: dict[str, float] = {}
    for name, table in cases.items():
        values |= _of_cases(_passed(table.to_pandas()), name, headline or Headline())
    return {
        "best_epoch": record.best_epoch,
        **({} if record.best_score is None else {"best_score": record.best_score}),
        "num_epochs": record.num_epochs,
        "training_hours": sum(result.train_s + result.validation_s for result in epochs) / 3600,
        **values,
    }


def _passed(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows without those of cases that a gate did not let pass."""
    refused = rows.loc[(rows["metric"] == "passed") & (rows["value"] == 0), "case"]
    return rows[~rows["case"].isin(refused)] if len(refused) else rows


def _of_cases(rows: pd.DataFrame, name: str, headline: Headline) -> dict[str, float]:
    is_part = rows["metric"].isin(headline.parts)
    whole, parts = rows[~is_part], rows[is_part]
    named = whole[(whole["metric"] == headline.metric) & (whole["pathology"] != _NO_PATHOLOGY)]
    means = _means(whole.assign(pathology=""), name) | _means(named, name)
    together = dict(_sets(parts.assign(pathology=""), name, headline))
    by_pathology = dict(_sets(parts[parts["pathology"] != _NO_PATHOLOGY], name, headline))
    return means | together | {key: value for key, value in by_pathology.items() if value == value}


def _means(rows: pd.DataFrame, name: str) -> dict[str, float]:
    labels = ["simulated", "metric", "pathology"]
    means = rows.groupby(labels, sort=False, observed=True)["value"].mean().reset_index().to_dict("records")
    return {_key(name, *(row[label] for label in labels)): row["value"] for row in means}


def _sets(rows: pd.DataFrame, name: str, headline: Headline) -> Iterator[tuple[str, float]]:
    labels = ["simulated", "pathology"]
    for (simulated, pathology), group in rows.astype(dict.fromkeys(_TEXTS, str)).groupby(labels, sort=False):
        wide = group.pivot(index="case", columns="metric", values="value")
        values = {str(part): wide[part].to_numpy() for part in wide}
        for metric, value in headline.of_sets(values).items():
            yield _key(name, str(simulated), metric, str(pathology)), value


def _key(*names: str) -> str:
    return "/".join(filter(None, names))
