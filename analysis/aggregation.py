"""Means and deviations: the repetition is the unit, images beside it, everything with its counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from xferlab.analysis.given import check_table
from xferlab.analysis.results import is_hold_out
from xferlab.analysis.selection import ALL
from xferlab.analysis.sets import counted, with_sets
from xferlab.errors import UsageError
from xferlab.metrics.metric import Metric

Planned = Mapping[tuple[str, ...], int]
"""Planned repetitions by (arm, stage, section, part), or by (arm, stage)."""

KEYS = ("arm", "stage", "section", "part", "pathology", "metric")
_COLUMNS = (*KEYS, "repetition", "case", "patient", "value")
MIN_PATIENTS = 5
"""Patients below which tables and figures give no deviations."""
_MEASURES = (
    *("mean", "sd_repetitions", "sd_images", "num_repetitions", "num_planned"),
    *("num_images", "images_per_repetition", "num_patients", "num_values", "num_undefined"),
)


def aggregate(
    cases: pd.DataFrame,
    *,
    planned: Planned | None = None,
    sets: Sequence[Metric] | None = None,
) -> pd.DataFrame:
    """Returns one row per arm, stage, section, part, pathology (`all` and each) and metric.

    Args:
        cases: What `load` returns, or rows of it.
        planned: Planned repetitions by (arm, stage, section, part), or where that is not there, by (arm,
            stage); default: what `load` noted in `attrs`, else missing.
        sets: Metrics of sets of cases; default: what `load` noted in `attrs`, else none.

    Returns:
        The keys and the columns below.

        mean: mean over repetitions of a repetition's mean over images, or of its value of a metric of sets.
        sd_repetitions: sample SD (n - 1) of those means; NaN for one repetition. sd_images: on a
        hold-out, where every repetition sees the same images, the sample SD over images of an image's
        mean over repetitions; elsewhere the mean over repetitions of the sample SD over a repetition's
        images. num_repetitions of num_planned (NaN if unknown). num_images, num_patients: distinct ones
        evaluated; images_per_repetition: mean. num_values: of all repetitions; num_undefined: of these
        NaN, and left out of the means; all of a repetition whose value of a metric of sets is.

    Raises:
        UsageError: It is no such table; or the rows hold what metrics of sets are made of, and neither `sets`
            nor `attrs` has these.
    """
    check_table(cases, "cases", _COLUMNS, "what `load` returns, as `results.cases` is, or rows of it")
    counts = planned if planned is not None else _noted_counts(cases)
    metrics = sets if sets is not None else _noted_sets(cases)
    together = _by_keys(cases, [key for key in KEYS if key != "pathology"], metrics).assign(pathology=ALL)
    frame = pd.concat([_by_keys(cases, list(KEYS), metrics), together])
    # Sections without pathologies have one that is called `all`, too.
    frame = frame.drop_duplicates(list(KEYS), keep="last", ignore_index=True)
    keys = frame[["arm", "stage", "section", "part"]].itertuples(index=False, name=None)
    known = [counts.get(key, counts.get(key[:2], float("nan"))) for key in keys]
    # Whole numbers where all are known: pandas turns a column with NaN into floats.
    frame["num_planned"] = pd.Series(known, index=frame.index, dtype=None if known else "int64")
    return frame[[*KEYS, *_MEASURES]].astype(dict.fromkeys(KEYS, object))


def deviations_withheld(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns aggregated rows without the deviations of few patients."""
    few = frame["num_patients"] < MIN_PATIENTS
    return frame.assign(**{name: frame[name].mask(few) for name in ("sd_repetitions", "sd_images")})


def _noted_counts(cases: pd.DataFrame) -> Planned:
    return {tuple(key.split("/")): number for key, number in cases.attrs.get("planned", {}).items()}


def _noted_sets(cases: pd.DataFrame) -> Sequence[Metric]:
    if "sets" in cases.attrs:
        return [Metric.from_json(entry) for entry in cases.attrs["sets"]]
    if truths := [str(name) for name in cases["metric"].unique() if str(name).startswith("IS_")]:
        raise UsageError(
            f"cases: the rows hold what metrics such as AUC are made of ({', '.join(truths)}), and `attrs` no"
            " longer says which metrics. A Parquet file keeps `attrs`; a CSV file and `pandas.concat` of two "
            "studies lose them. Give sets=results.metrics.of_sets and planned=results.planned_evaluations() "
            "of `results = load_study(...)`; or sets=() for the means of the rows as they are."
        )
    return ()


def _by_keys(cases: pd.DataFrame, group: list[str], sets: Sequence[Metric]) -> pd.DataFrame:
    keys = [*group, "repetition"]
    rows = counted(cases, sets)
    per_repetition = _grouped(rows, keys)["value"].agg(["mean", "std", "size", "count"])
    repetitions = _grouped(per_repetition.reset_index(), group)
    result = repetitions.agg(
        mean=("mean", "mean"),
        sd_repetitions=("mean", "std"),
        within=("std", "mean"),
        num_repetitions=("repetition", "nunique"),
        num_values=("size", "sum"),
        num_defined=("count", "sum"),
    )
    result["images_per_repetition"] = result["num_values"] / result["num_repetitions"]
    per_image = _grouped(rows, [*group, "case"])["value"].mean().reset_index()
    over_images = _grouped(per_image, group)["value"].agg(["std", "size"])
    fixed = np.array([is_hold_out(part) for part in result.index.get_level_values("part")], dtype=bool)
    result["sd_images"] = result.pop("within").where(~fixed, over_images["std"])
    result["num_images"] = over_images["size"]
    result["num_patients"] = _grouped(rows[[*group, "patient"]].drop_duplicates(), group).size()
    result = with_sets(result, cases, sets, group=group) if sets else result
    result["num_undefined"] = result["num_values"] - result.pop("num_defined")
    frame: pd.DataFrame = result.reset_index()
    return frame


def _grouped(frame: pd.DataFrame, keys: list[str]) -> Any:
    return frame.groupby(keys, observed=True, sort=False)
