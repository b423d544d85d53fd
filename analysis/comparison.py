"""Paired differences: over repetitions for training variability, over patients for generalisation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from xferlab.analysis.selection import ALL, metric_named, ordered_metrics, ordered_pathologies

MIN_REPETITIONS = 3
MIN_TESTED = 5
"""Paired repetitions below which no p is given: with three or four, p rests on the assumed distribution."""
MIN_PATIENTS = 5
NUM_RESAMPLES = 4999
CONFIDENCE = 0.95

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


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
    first_part: str = ""


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
      least 3 of them (5 for p), widened by `test_to_train`: what training again may change.
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
        block = [{"pathology": pathology, **row} for row in _block(part, comparison, seed=seed)]
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
    if num < MIN_PATIENTS:
        return [UNDEFINED] * sums.shape[1]
    weights, signs = _draws(num, seed)
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
        drawn = means[:, column]
        low, high = np.quantile(drawn[~np.isnan(drawn)], [tail, 1 - tail])
        varies = bool(np.abs(sums[:, column]).sum() > 0)
        intervals.append(Interval(float(low), float(high), float(p_values[column]) if varies else np.nan))
    return intervals


@lru_cache(maxsize=4)
def _draws(num: int, seed: int) -> tuple[Floats, Floats]:
    """Returns how often each resample holds each unit, and signs: (resamples, units) both.

    Kept, since a study compares many arms on the same patients.
    """
    random = np.random.default_rng(seed)
    weights = random.multinomial(num, np.full(num, 1 / num), size=NUM_RESAMPLES).astype(np.float64)
    signs = random.integers(0, 2, size=(NUM_RESAMPLES, num)).astype(np.float64) * 2 - 1
    return weights, signs


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


def _block(pairs: pd.DataFrame, comparison: Comparison, *, seed: int) -> list[dict[str, Any]]:
    """Returns a row for each metric of the pairs of one pathology."""
    metrics = [metric.name for metric in ordered_metrics(pairs["metric"].unique())]
    metric = pd.Categorical(pairs["metric"], categories=metrics).codes.astype(np.int64)
    num, defined = len(metrics), pairs["defined"].to_numpy(bool)
    columns = {name: pairs[name].to_numpy(float)[defined] for name in _VALUES}
    by_repetition = {
        name: _Cells(metric[defined], _codes(pairs["repetition"])[defined], num, values)
        for name, values in columns.items()
    }
    by_patient = _Cells(metric[defined], _codes(pairs["patient"])[defined], num, columns["difference"])
    images = _Cells(metric[defined], _codes(pairs["case"])[defined], num, columns["difference"])
    over = patient_interval(by_patient.sums.T, by_patient.counts.T, seed=seed)
    undefined = np.bincount(metric[~defined], minlength=num)
    return [
        {
            "metric": name,
            **_row({key: cells.means(place) for key, cells in by_repetition.items()}, comparison),
            "num_images": int((images.counts[place] > 0).sum()),
            "num_patients": int((by_patient.counts[place] > 0).sum()),
            "num_undefined": int(undefined[place]),
            "patient_low": over[place].low,
            "patient_high": over[place].high,
            "patient_p": over[place].p,
        }
        for place, name in enumerate(metrics)
    ]


_VALUES = ("value_first", "value_second", "difference")


class _Cells:
    """Sums and counts (metrics, units) of values, with arrays for what pandas takes a second for."""

    def __init__(self, metric: Codes, unit: Codes, num_metrics: int, values: Floats):
        shape = (num_metrics, int(unit.max(initial=-1)) + 1)
        place = metric * shape[1] + unit
        sums = np.bincount(place, values, minlength=shape[0] * shape[1]).reshape(shape)
        self.sums: Floats = sums.astype(np.float64)
        counts = np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape)
        self.counts: Floats = counts.astype(np.float64)

    def means(self, metric: int) -> Floats:
        """Returns the means over the units that have a value."""
        known = self.counts[metric] > 0
        return np.asarray(self.sums[metric][known] / self.counts[metric][known], dtype=float)


def _codes(values: pd.Series) -> Codes:
    # Sorted, so that no order of rows changes what is resampled.
    return np.asarray(pd.factorize(values.astype(object), sort=True)[0], dtype=np.int64)


def _row(means: dict[str, Floats], comparison: Comparison) -> dict[str, Any]:
    first, second, difference = (means[name] for name in _VALUES)
    over = repetition_interval(difference, test_to_train=comparison.test_to_train)
    known = len(difference) > 0
    return {
        "first_mean": first.mean() if known else np.nan,
        "second_mean": second.mean() if known else np.nan,
        "difference": difference.mean() if known else np.nan,
        "num_repetitions": len(difference),
        "repetition_low": over.low,
        "repetition_high": over.high,
        "repetition_p": over.p if len(difference) >= MIN_TESTED else np.nan,
    }
