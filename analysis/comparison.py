"""Paired differences: over repetitions for training variability, over patients for generalisation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.selection import ALL, metric_named, ordered_metrics, ordered_pathologies

MIN_REPETITIONS = 3
MIN_PATIENTS = 5
NUM_RESAMPLES = 4999
CONFIDENCE = 0.95

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Side:
    """One side of a comparison: the stage of an arm."""

    arm: str
    stage: str


@dataclass(frozen=True)
class Comparison:
    """Two models on the same evaluation set.

    Attributes:
        first: What is compared with (before, or the baseline).
        second: What is compared (after, or another arm).
        section: Data section of the cases.
        part: Part of the section.
        test_to_train: Test images per training image where every repetition draws its own test part, else
            0. It widens the interval over repetitions, whose training sets overlap (Nadeau and Bengio 2003,
            Inference for the generalization error, eq. 11: 1/n becomes 1/n + test/train).
        first_part: Part that the first side is measured on where it is another than the second's.
    """

    first: Side
    second: Side
    section: str
    part: str
    test_to_train: float = 0.0
    # Not in the text that resampling is seeded with: one stage of one arm on both sides tells enough.
    first_part: str = field(default="", repr=False)


class Interval(NamedTuple):
    """A confidence interval with the p-value of no difference; NaN where not defined."""

    low: float
    high: float
    p: float


UNDEFINED = Interval(np.nan, np.nan, np.nan)


def compare(cases: pd.DataFrame, comparison: Comparison, *, seed: int) -> pd.DataFrame:
    """Returns one row per pathology (`all` and each) and metric.

    Pairs are formed by repetition, case and metric; a pair with an undefined value on either side is left
    out and counted.

    Columns: pathology, metric, first_mean, second_mean, difference (second minus first, mean over paired
    repetitions of the mean over images), num_repetitions, num_images, num_patients, num_undefined,
    num_unpaired (values that only one side has); and two intervals with p-values:

    - repetition_low, repetition_high, repetition_p: t interval over the repetitions' mean differences, at
      least 3 of them, widened by `test_to_train`: what training again may change.
    - patient_low, patient_high: percentile bootstrap of whole patients; patient_p: sign-flip permutation
      of patients' summed differences; at least 5 of them: what other patients may change, given these
      trained models.

    Both p-values stand a second time, `_holm`, adjusted over a family: the
    paper's metrics, or those beyond them, of one pathology. Values are NaN
    where there are too few units, and p is NaN where the differences do not vary.
    """
    pairs, num_unpaired = _pairs(cases, comparison)
    rows: list[dict[str, Any]] = []
    for pathology, part in _by_pathology(pairs):
        metrics = [metric.name for metric in ordered_metrics(part["metric"].unique())]
        over_patients = _patient_intervals(part, metrics, seed=seed)
        block = [
            _row(part[part["metric"] == metric], comparison.test_to_train, over_patients[metric])
            | {"pathology": pathology, "metric": metric}
            for metric in metrics
        ]
        for in_paper in (True, False):
            _adjust([row for row in block if metric_named(str(row["metric"])).in_paper == in_paper])
        rows += block
    return pd.DataFrame(rows, columns=COLUMNS).assign(num_unpaired=num_unpaired)


COLUMNS = (
    "pathology",
    "metric",
    "first_mean",
    "second_mean",
    "difference",
    "num_repetitions",
    "num_images",
    "num_patients",
    "num_undefined",
    "repetition_low",
    "repetition_high",
    "repetition_p",
    "repetition_p_holm",
    "patient_low",
    "patient_high",
    "patient_p",
    "patient_p_holm",
)


def holm(p_values: list[float]) -> list[float]:
    """Returns p-values adjusted by Holm's step-down method (1979); NaN stays NaN and counts as no test."""
    values = np.asarray(p_values, dtype=float)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    scaled = values[order] * np.arange(len(order), 0, -1)
    values[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(order) else scaled
    return [float(value) for value in values]


def repetition_interval(differences: Floats, *, test_to_train: float = 0.0) -> Interval:
    """Returns the t interval and two-sided p of the mean of paired differences, one per repetition."""
    from scipy import special

    n = len(differences)
    if n < MIN_REPETITIONS:
        return UNDEFINED
    mean, sd = float(np.mean(differences)), float(np.std(differences, ddof=1))
    error = sd * float(np.sqrt(1 / n + test_to_train))
    # Rounding alone gives differences that are all equal a tiny deviation, and with it a tiny p.
    if error <= 1e-12 * max(1.0, abs(mean)):
        return Interval(mean, mean, np.nan)
    half = float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * error
    return Interval(mean - half, mean + half, 2 * float(special.stdtr(n - 1, -abs(mean) / error)))


def patient_interval(sums: Floats, counts: Floats, *, seed: int) -> list[Interval]:
    """Returns, per metric, the bootstrap interval over patients and the sign-flip permutation p.

    Args:
        sums: Summed differences of each patient, shape (patients, metrics).
        counts: Number of summed differences, same shape.
        seed: Of resampling and flips.
    """
    num = len(sums)
    random = np.random.default_rng(seed)
    weights = random.multinomial(num, np.full(num, 1 / num), size=NUM_RESAMPLES).astype(float)
    signs = random.integers(0, 2, size=(NUM_RESAMPLES, num)) * 2.0 - 1.0
    totals = weights @ counts
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(totals > 0, weights @ sums / totals, np.nan)
    observed = np.abs(sums.sum(axis=0))
    # The tolerance counts flips that tie with the observed sum up to rounding.
    reached = np.abs(signs @ sums) >= observed - 1e-9 * np.abs(sums).sum(axis=0)
    p_values = (1 + reached.sum(axis=0)) / (1 + NUM_RESAMPLES)
    tail = (1 - CONFIDENCE) / 2
    intervals = []
    for column in range(sums.shape[1]):
        units = int((counts[:, column] > 0).sum())
        if units < MIN_PATIENTS:
            intervals.append(UNDEFINED)
            continue
        low, high = np.nanquantile(means[:, column], [tail, 1 - tail])
        varies = bool(np.abs(sums[:, column]).sum() > 0)
        intervals.append(Interval(float(low), float(high), float(p_values[column]) if varies else np.nan))
    return intervals


def _adjust(family: list[dict[str, Any]]) -> None:
    for unit in ("repetition", "patient"):
        for row, p in zip(family, holm([row[f"{unit}_p"] for row in family]), strict=True):
            row[f"{unit}_p_holm"] = p


def _pairs(cases: pd.DataFrame, comparison: Comparison) -> tuple[pd.DataFrame, int]:
    on = ["repetition", "case", "metric"]
    first = _side(cases, comparison, comparison.first, comparison.first_part or comparison.part)
    second = _side(cases, comparison, comparison.second, comparison.part)
    pairs = first.merge(second[[*on, "value"]], on=on, suffixes=("_first", "_second"))
    pairs["defined"] = pairs["value_first"].notna() & pairs["value_second"].notna()
    pairs["difference"] = pairs["value_second"] - pairs["value_first"]
    return pairs, len(first) + len(second) - 2 * len(pairs)


def _side(cases: pd.DataFrame, comparison: Comparison, side: Side, part: str) -> pd.DataFrame:
    own = (
        (cases["arm"] == side.arm)
        & (cases["stage"] == side.stage)
        & (cases["section"] == comparison.section)
        & (cases["part"] == part)
    )
    return cases.loc[own, ["repetition", "case", "patient", "pathology", "metric", "value"]]


def _by_pathology(pairs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    if not len(pairs):
        return
    yield ALL, pairs
    for pathology in ordered_pathologies(pairs["pathology"].unique()):
        yield pathology, pairs[pairs["pathology"] == pathology]


def _row(pairs: pd.DataFrame, test_to_train: float, over_patients: Interval) -> dict[str, Any]:
    defined = pairs[pairs["defined"]]
    means = defined.groupby("repetition")[["value_first", "value_second", "difference"]].mean()
    over = repetition_interval(means["difference"].to_numpy(float), test_to_train=test_to_train)
    return {
        "first_mean": means["value_first"].mean(),
        "second_mean": means["value_second"].mean(),
        "difference": means["difference"].mean(),
        "num_repetitions": len(means),
        "num_images": defined["case"].nunique(),
        "num_patients": defined["patient"].nunique(),
        "num_undefined": len(pairs) - len(defined),
        "repetition_low": over.low,
        "repetition_high": over.high,
        "repetition_p": over.p,
        "patient_low": over_patients.low,
        "patient_high": over_patients.high,
        "patient_p": over_patients.p,
    }


def _patient_intervals(pairs: pd.DataFrame, metrics: list[str], *, seed: int) -> dict[str, Interval]:
    grouped = pairs.groupby(["patient", "metric"], observed=True)["difference"].agg(["sum", "count"])
    table = grouped.unstack("metric", fill_value=0).sort_index()
    sums, counts = (table[[(name, m) for m in metrics]].to_numpy(float) for name in ("sum", "count"))
    return dict(zip(metrics, patient_interval(sums, counts, seed=seed), strict=True))
