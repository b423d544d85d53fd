"""Paired differences with one interval and one p: other patients, other training samples, other seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from xferlab.analysis.design import Design, Side
from xferlab.analysis.estimates import (
    UNDEFINED,
    Codes,
    Estimate,
    Flags,
    Floats,
    by_split,
    corrected_t,
    counted_patients,
    jackknife_t,
    two_way_t,
)
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import ALL, ordered_pathologies
from xferlab.analysis.sets import PairedSets, SetMeasure, measures_of, parts_of
from xferlab.metrics.claims import MIN_REPETITIONS
from xferlab.metrics.metric import Metric

MIN_COUNTED_PATIENTS = 10
"""Patients, counted by their images, below which no p is given."""
MAX_LOST = 0.05
"""Share of the images that may leave a comparison before it claims nothing."""
MIN_PAIRED = 0.9
"""Share of the planned pairs of repetitions below which a comparison claims nothing."""
NO_CLAIM = {
    "sites left out": (
        "each repetition leaves another site out, which describes these sites and says nothing of others"
    ),
    "trained on these": "models were trained or stopped on these images",
    "tuned on these": "a search chose one of the sides, or may have chosen it, by some of these patients",
    "same patients": (
        "every repetition trains on the same patients, so nothing shows what other training patients change"
    ),
    "pairs missing": f"fewer than {100 * MIN_PAIRED:g} % of the planned pairs of repetitions are complete",
    "undefined": "the metric is undefined in repetitions, or without one of the patients",
    "images lost": (
        f"more than {100 * MAX_LOST:g} % of the images have an undefined value or lack a repetition"
    ),
}
"""Reasons for neither interval nor p, with what they mean."""
NO_P = {
    "different donors": (
        "the sides descend from different donors (given weights or a single training), and there are fewer "
        "than 5 of them; the interval holds for these donors alone"
    ),
    "patients also train": (
        "images are divided, not patients, and models were trained on other images of some of these patients"
    ),
    f"n < {MIN_REPETITIONS} repetitions": (
        f"at least {MIN_REPETITIONS} paired repetitions are needed, and those that share a split count as one"
    ),
    f"n < {MIN_COUNTED_PATIENTS} patients": (
        f"at least {MIN_COUNTED_PATIENTS} patients are needed, counted by their images (patients count less "
        "where one of them has many of the images)"
    ),
    "no variation": "the differences do not vary",
}
"""Reasons for no p, with what they mean."""


@dataclass(frozen=True)
class Comparison:
    """Two models on the same cases.

    Attributes:
        first: What is compared with (before, or the baseline).
        second: What is compared (after, or another arm).
        design: How the repetitions of both depend on each other.
        tuned: Whether a search chose one of them, or may have chosen it, by these patients.
    """

    first: Side
    second: Side
    design: Design
    tuned: bool = False

    @property
    def evaluated(self) -> EvaluationSet:
        """What the second side is measured on; the first may see the same cases in another variant."""
        return self.second.evaluated


class Contrast(NamedTuple):
    """A comparison and what `compare` returned for it."""

    comparison: Comparison
    rows: pd.DataFrame


def compare(cases: pd.DataFrame, comparison: Comparison, *, sets: tuple[Metric, ...] = ()) -> pd.DataFrame:
    """Returns one row per pathology (`all` and each) and metric, with those of `sets` of cases.

    Pairs are formed by repetition, image and metric. An image with an undefined value on either side in any
    paired repetition leaves the comparison; on a hold-out so does one that lacks a repetition. A test part
    that is the same in all paired repetitions, as a split file may have it, counts as a hold-out here.

    Columns: pathology, metric, first_mean, second_mean, difference (second minus first, mean over paired
    repetitions of the mean over images; over splits where these have several seeds, of the mean over the
    paired seeds of each), low, high, p, df (`two_way_t` on hold-outs, else `corrected_t`),
    no_p (the reason, a key of `NO_CLAIM` or `NO_P`; empty where p is given), num_repetitions (paired),
    num_planned, num_images, num_patients, counted_patients, num_lost (images that left), overlap (r on
    hold-outs, else test images per training image; in a stage before, patients), over_repetitions and
    over_patients (variances; see `Estimate`), fixed_images (whether each repetition measures the same
    images), num_unpaired (values that only one side has).
    """
    pairs, num_unpaired = _pairs(cases, comparison)
    num_paired, num_metrics = pairs["repetition"].nunique(), pairs["metric"].nunique()
    design = comparison.design
    test_to_train = len(pairs) / max(1, num_paired * num_metrics) / design.num_train
    fixed_images = comparison.evaluated.is_hold_out or _same_in_all(pairs)
    rules = _Rules(
        fixed_images=fixed_images,
        design=design,
        test_to_train=max(test_to_train, design.ratio_elsewhere),
        reason=_reason(comparison, num_paired),
        sets=sets,
    )
    parts = {ALL: pairs} if len(pairs) else {}
    # Images of sections without pathologies have one that is called `all`, too.
    for pathology in ordered_pathologies({*pairs["pathology"].unique()} - {ALL}):
        parts[pathology] = pairs[pairs["pathology"] == pathology]
    rows = [{"pathology": name, **row} for name, part in parts.items() for row in _rows(part, rules)]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.assign(num_planned=design.planned, fixed_images=fixed_images, num_unpaired=num_unpaired)


COLUMNS = (
    *("pathology", "metric", "first_mean", "second_mean", "difference", "low", "high", "p", "df", "no_p"),
    *("num_repetitions", "num_images", "num_patients", "counted_patients", "num_lost", "overlap"),
    *("over_repetitions", "over_patients"),
)


class _Rules(NamedTuple):
    """What holds for all pathologies and metrics of a comparison."""

    fixed_images: bool
    design: Design
    test_to_train: float
    reason: str
    sets: tuple[Metric, ...]

    def overlap(self, by_repetition: Floats, splits: Codes) -> float:
        """Returns what repetitions have in common, from their differences and the split of each."""
        return self.design.overlap(by_repetition, splits) if self.fixed_images else self.test_to_train


def _same_in_all(pairs: pd.DataFrame) -> bool:
    """Whether several repetitions are paired, and all of them on the same images."""
    images = pairs[["repetition", "case"]].drop_duplicates()
    per_repetition = images.groupby("repetition").size()
    return len(per_repetition) > 1 and bool((per_repetition == images["case"].nunique()).all())


def _reason(comparison: Comparison, num_paired: int) -> str:
    """Returns why the values, however they turn out, allow no claim; empty where they allow one."""
    design, evaluated = comparison.design, comparison.evaluated
    if evaluated.plain.part in ("train", "validation"):
        return "trained on these"
    if comparison.tuned:
        return "tuned on these"
    if design.by_site:
        return "sites left out"
    if design.planned > 1 and design.share >= 1:
        return "same patients"
    return "pairs missing" if num_paired < MIN_PAIRED * design.planned else ""


def _pairs(cases: pd.DataFrame, comparison: Comparison) -> tuple[pd.DataFrame, int]:
    """Returns the values of both sides, paired, and how many have no other."""
    first, second = _side(cases, comparison.first), _side(cases, comparison.second)
    pairs = paired(first, second, on=["repetition", "metric"])
    return pairs, len(first) + len(second) - 2 * len(pairs)


def paired(first: pd.DataFrame, second: pd.DataFrame, *, on: list[str]) -> pd.DataFrame:
    """Returns the rows of the first side with the value of the second for the same image.

    An image that one side reads otherwise, such as with other grey levels, is another case of the same name.

    Args:
        first: Columns case, name, patient, value, those of `on`, and any others.
        second: The same.
        on: What must be equal beside the image.
    """
    pairs = _merged(first, second, ["case", *on])
    if len(first) + len(second) > 2 * len(pairs):
        by_name = ["patient", "name", *on]
        if not (first.duplicated(by_name).any() or second.duplicated(by_name).any()):
            pairs = max(pairs, _merged(first, second, by_name), key=len)
    return pairs


def images_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns repetition, case, name and patient of the images of one side, a row each."""
    return rows[["repetition", "case", "name", "patient"]].drop_duplicates(["repetition", "case"])


def same_images(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Returns the images that both sides have, as `paired` has them; `value_first` and `_second` are cases.

    Args:
        first: Columns repetition, case, name, patient, a row for each image.
        second: The same.
    """
    sides = (rows.assign(value=rows["case"].astype(str)) for rows in (first, second))
    return paired(*sides, on=["repetition"])


def _merged(first: pd.DataFrame, second: pd.DataFrame, on: list[str]) -> pd.DataFrame:
    return first.merge(second[[*on, "value"]], on=on, suffixes=("_first", "_second"))


def _side(cases: pd.DataFrame, side: Side) -> pd.DataFrame:
    rows = side.evaluated.rows(cases[cases["arm"] == side.arm])
    return rows[["repetition", "case", "name", "patient", "pathology", "metric", "value"]]


def _rows(pairs: pd.DataFrame, rules: _Rules) -> Iterator[dict[str, Any]]:
    """Yields a row for each metric of the pairs of one pathology."""
    metric, metrics = pd.factorize(pairs["metric"].astype(object))
    repetition, case = _codes(pairs["repetition"]), _codes(pairs["case"])
    # Arrays (metrics, repetitions, images), since pandas takes seconds for what follows.
    values = np.full((2, len(metrics), repetition.max() + 1, case.max() + 1), np.nan)
    present = np.zeros(values.shape[1:], dtype=bool)
    present[metric, repetition, case] = True
    for side, column in enumerate(("value_first", "value_second")):
        values[side, metric, repetition, case] = pairs[column]
    patients = np.zeros(values.shape[3], dtype=np.int64)
    patients[case] = _codes(pairs["patient"])
    splits = (np.unique(pairs["repetition"].to_numpy(np.int64)) - 1) // rules.design.seeds
    cases = _Cases(patients, splits)
    indices = {name: index for index, name in enumerate(metrics)}
    parts = parts_of(rules.sets)
    for name, index in indices.items():
        if name not in parts:
            yield {"metric": name, **_row(values[:, index], present[index], cases, rules)}
    yield from _set_rows(values, present, cases, rules, indices)


def _codes(values: pd.Series) -> Codes:
    # Sorted, so that no order of rows changes a sum.
    return np.asarray(pd.factorize(values.astype(object), sort=True)[0], dtype=np.int64)


class _Values(NamedTuple):
    """What a metric gives of two sides.

    Attributes:
        first: Of each paired repetition, shape (J,).
        second: The same of the other side.
        splits: The split of each of these repetitions, shape (J,).
        patients: Of each image that is left, shape (N,).
        fewest: Patients, counted by their images; of a metric of sets, those of the class with fewest, if
            these are fewer.
        num_lost: Images that left.
        estimate: Of their difference.
        reason: Why there is no claim; empty where there is one.
    """

    first: Floats
    second: Floats
    splits: Codes
    patients: Codes
    fewest: float
    num_lost: int
    estimate: Estimate
    reason: str


class _Cases(NamedTuple):
    """Patients of the images (N,), and the split of each repetition (J,)."""

    patients: Codes
    splits: Codes


def _row(values: Floats, present: Flags, cases: _Cases, rules: _Rules) -> dict[str, Any]:
    """Returns the row of a metric of cases: values (sides, repetitions, images) where pairs are `present`."""
    kept, paired, num_lost = _kept(np.any(np.isnan(values), axis=0), present, rules)
    patients, splits = cases.patients[kept], cases.splits[paired]
    sides, shown = values[:, paired][:, :, kept], present[paired][:, kept]
    first, second = (np.where(shown, side, 0).sum(axis=1) / shown.sum(axis=1) for side in sides)
    reason = _lost(num_lost, len(patients), rules)
    if reason:
        estimate = UNDEFINED
    elif rules.fixed_images:
        overlap = rules.overlap(second - first, splits)
        estimate = two_way_t(by_split(sides[1] - sides[0], splits), patients, overlap=overlap)
    else:
        estimate = corrected_t(by_split(second - first, splits), overlap=rules.test_to_train)
    counted = counted_patients(patients)
    return _row_of(_Values(first, second, splits, patients, counted, num_lost, estimate, reason), rules)


def _kept(undefined: Flags, present: Flags, rules: _Rules) -> tuple[Flags, Flags, int]:
    """Returns the images that stay, the repetitions that are paired then, and how many images left."""
    lost: Flags = np.any(present & undefined, axis=0)
    if rules.fixed_images:
        lost |= ~present.all(axis=0)
    lost &= present.any(axis=0)
    kept: Flags = np.any(present, axis=0) & ~lost
    return kept, np.any(present & kept, axis=1), int(lost.sum())


def _lost(num_lost: int, num_kept: int, rules: _Rules) -> str:
    return rules.reason or ("images lost" if num_lost > MAX_LOST * (num_lost + num_kept) else "")


def _row_of(measured: _Values, rules: _Rules) -> dict[str, Any]:
    """Returns the row of what a metric gives, with the reason where there is no p."""
    num, estimate, splits = len(measured.first), measured.estimate, measured.splits
    first, second = measured.first, measured.second
    # Means over splits, in which the interval is centred: a split that lacks a seed counts like the others.
    means = [float(by_split(side, splits).mean()) if num else np.nan for side in (first, second)]
    few = (len(np.unique(splits)) < MIN_REPETITIONS, measured.fewest < MIN_COUNTED_PATIENTS)
    design = rules.design
    conditions = (design.donors_differ, design.divides_patients, *few, np.isnan(estimate.p))
    why = next((key for key, holds in zip(NO_P, conditions, strict=True) if holds), "")
    reason = measured.reason or why
    estimate = estimate._replace(p=np.nan) if reason else estimate
    return {
        "first_mean": means[0],
        "second_mean": means[1],
        "difference": float(by_split(second - first, splits).mean()) if num else np.nan,
        **estimate._asdict(),
        "no_p": reason,
        "num_repetitions": num,
        "num_images": len(measured.patients),
        "num_patients": len(np.unique(measured.patients)),
        "counted_patients": counted_patients(measured.patients),
        "num_lost": measured.num_lost,
        "overlap": rules.overlap(second - first, splits),
    }


# --- metrics of sets of cases ------------------------------------------------------------------------------


def _set_rows(
    values: Floats, present: Flags, cases: _Cases, rules: _Rules, indices: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    """Yields the rows of metrics of sets, from values (sides, metrics, repetitions, images)."""
    paired_sets: dict[bytes, PairedSets] = {}
    for measure in measures_of(rules.sets, frozenset(indices)):
        parts = [indices[name] for name in measure.parts]
        undefined = np.any(np.isnan(values[:, parts]), axis=(0, 1))
        complete = np.logical_and.reduce(present[parts])
        kept, paired, num_lost = _kept(undefined, complete, rules)
        key = (complete & kept).tobytes()
        if key not in paired_sets:
            chosen = values[:, :, paired][..., kept]
            sides = [{name: side[index] for name, index in indices.items()} for side in chosen]
            paired_sets[key] = PairedSets(sides, complete[paired][:, kept], cases.patients[kept])
        measured = _of_sets(paired_sets[key], measure, cases.splits[paired], rules, num_lost)
        yield {"metric": measure.metric.name, **_row_of(measured, rules)}


def _of_sets(pairs: PairedSets, measure: SetMeasure, splits: Codes, rules: _Rules, num_lost: int) -> _Values:
    """Returns what a metric of sets gives; a repetition in which it is undefined is no pair."""
    first, second = pairs.differences(measure)
    defined, patients = ~np.isnan(second - first), pairs.patients
    first, second, splits = first[defined], second[defined], splits[defined]
    reason = _lost(num_lost, len(patients), rules)
    if len(first) < MIN_PAIRED * rules.design.planned:
        reason = reason or "undefined"
    if reason:
        estimate = UNDEFINED
    elif rules.fixed_images:
        left_out = by_split(pairs.without_each(measure, defined), splits).mean(axis=0)
        overlap, differences = rules.overlap(second - first, splits), by_split(second - first, splits)
        estimate = jackknife_t(differences, left_out, patients, overlap=overlap)
        reason = "undefined" if np.isnan(left_out).any() else ""
    else:
        estimate = corrected_t(by_split(second - first, splits), overlap=rules.test_to_train)
    fewest = min(pairs.fewest_patients(measure), counted_patients(patients))
    return _Values(first, second, splits, patients, fewest, num_lost, estimate, reason)
