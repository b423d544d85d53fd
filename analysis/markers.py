"""Markers of images by class: a value of each image, and tests between classes, on images and on patients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, permutations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.estimates import holm
from xferlab.analysis.results import StudyResults
from xferlab.cohort import STEPS
from xferlab.metrics.metric import Metric

Floats = npt.NDArray[np.float64]
NO_CLASS = "none"
"""The class of images that are of none of the classes that the stage learns."""


def without_markers(rows: pd.DataFrame, markers: Sequence[Metric]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the rows of other metrics, and the defined rows of markers."""
    if not markers:
        return rows, rows[:0]
    is_marker = rows["metric"].isin([metric.name for metric in markers])
    return rows[~is_marker], rows[is_marker & rows["value"].notna()]


@dataclass(frozen=True, eq=False)
class Marked:
    """The markers of the images of a section, as a stage of an arm measured them.

    Attributes:
        arm: The first arm that measured any.
        stage: The stage.
        section: The section; images of all of its parts that are evaluated are pooled.
        metrics: The markers that have a value.
        classes: Names of the classes of images, in order: what the stage learns to tell, or the pathologies
            where these are finer.
        cases: A row for each image: `case`, `name`, `patient`, `of` (its class), `parts` (a tuple of those
            in which it is measured), and by name a column for each marker, which is its mean over the
            repetitions and parts that measured it.
    """

    arm: str
    stage: str
    section: str
    metrics: tuple[Metric, ...]
    classes: tuple[str, ...]
    cases: pd.DataFrame

    @property
    def subject(self) -> dict[str, str]:
        """What tables and figures of it show, apart from their kind."""
        return {"stage": self.stage, "section": self.section}

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that its images are measured in."""
        return tuple(sorted({part for parts in self.cases["parts"] for part in parts}))

    def of_class(self, name: str) -> pd.DataFrame:
        """Returns the images of a class."""
        return self.cases[self.cases["of"] == name]

    def values(self, metric: str, of: str) -> Floats:
        """Returns the defined values of a marker of the images of a class, sorted."""
        return np.sort(self.of_class(of)[metric].dropna().to_numpy(np.float64))

    @cached_property
    def by_patient(self) -> pd.DataFrame:
        """The mean of each marker over a patient's images of a class; the rows are `of`, `patient`."""
        return self.cases.groupby(["of", "patient"])[[metric.name for metric in self.metrics]].mean()

    def common(self, other: Marked) -> Marked:
        """Returns the images alone that another section has, too: those of equal name and patient.

        Of a marker, only the values of images stay that have one there, too.
        """
        named, others = (pd.MultiIndex.from_frame(m.cases[["name", "patient"]]) for m in (self, other))
        metrics = tuple(metric for metric in self.metrics if metric in other.metrics)
        values = {
            metric.name: self.cases[metric.name].where(named.isin(others[other.cases[metric.name].notna()]))
            for metric in metrics
        }
        return replace(self, metrics=metrics, cases=self.cases.assign(**values)[named.isin(others)])

    @property
    def repeated(self) -> tuple[int, int]:
        """How many images are of patients with several images, and how many patients these are."""
        counts = self.cases["patient"].value_counts()
        return int(counts[counts > 1].sum()), int((counts > 1).sum())

    @cached_property
    def described(self) -> pd.DataFrame:
        """Mean and deviation of each marker and class, a row each.

        Columns: metric, of, num_images and num_patients (with a value), mean and sd (sample SD) over images,
        patients_mean and patients_sd over patients, normal_p (Kolmogorov-Smirnov against the normal
        distribution with the sample's mean and SD; NaN where values do not vary). Classes of fewer than
        `MIN_PATIENTS` patients have neither deviations nor p.
        """
        rows = [
            {"metric": metric.name, "of": of, **self._described(metric.name, of)}
            for metric in self.metrics
            for of in self.classes
        ]
        return pd.DataFrame(rows)

    def _described(self, metric: str, of: str) -> dict[str, Any]:
        values, patients = self.values(metric, of), self._patients(metric, of)
        few = len(patients) < MIN_PATIENTS
        return {
            "num_images": len(values),
            "num_patients": len(patients),
            "mean": values.mean() if len(values) else np.nan,
            "sd": np.nan if few else values.std(ddof=1),
            "patients_mean": patients.mean(),
            "patients_sd": np.nan if few else patients.std(ddof=1),
            "normal_p": np.nan if few else _normal_p(values),
        }

    def _patients(self, metric: str, of: str) -> pd.Series:
        is_of = self.by_patient.index.get_level_values("of") == of
        return self.by_patient.loc[is_of, metric].droplevel("of").dropna().sort_index()

    @cached_property
    def compared(self) -> pd.DataFrame:
        """Each two classes compared by each marker, a row each.

        Columns: metric, first, second, difference (of the means over images, second minus first),
        first_images and second_images, p (rank-sum test on images) and p_holm, first_patients and
        second_patients, num_in_both (patients with images of both classes, who are left out of the test that
        follows), patients_p (rank-sum test on the means of patients) and patients_p_holm. Holm's method
        adjusts over all rows. A p is NaN where a class has fewer than `MIN_PATIENTS` patients, and where
        values do not vary.
        """
        rows = [
            {
                "metric": metric.name,
                "first": first,
                "second": second,
                **self._pair(metric.name, first, second),
            }
            for metric in self.metrics
            for first, second in combinations(self.classes, 2)
        ]
        frame = pd.DataFrame(rows)
        for name in ("p", "patients_p") if rows else ():
            place = list(frame.columns).index(name) + 1
            frame.insert(place, f"{name}_holm", holm(list(frame[name])))
        return frame

    def _pair(self, metric: str, first: str, second: str) -> dict[str, Any]:
        images = [self.values(metric, of) for of in (first, second)]
        patients = [self._patients(metric, of) for of in (first, second)]
        both = patients[0].index.intersection(patients[1].index)
        apart = [values.drop(both) for values in patients]
        few = min(map(len, patients)) < MIN_PATIENTS
        counts = dict(zip(("first_images", "second_images"), map(len, images), strict=True))
        num_patients = dict(zip(("first_patients", "second_patients"), map(len, apart), strict=True))
        return {
            "difference": images[1].mean() - images[0].mean() if min(map(len, images)) else np.nan,
            **counts,
            "p": np.nan if few else _rank_sum_p(*images),
            **num_patients,
            "num_in_both": len(both),
            "patients_p": np.nan if min(map(len, apart)) < MIN_PATIENTS else _rank_sum_p(*apart),
        }


def marked_of(results: StudyResults, markers: pd.DataFrame, cases: pd.DataFrame) -> Iterator[Marked]:
    """Yields the markers of the images of each section that a stage is measured on.

    Args:
        results: The study.
        markers: Rows of markers.
        cases: Rows of other metrics, for the classes of the images.
    """
    plain = markers[~markers["part"].astype(str).str.contains("@")]
    planned = {(each.evaluated.stage, each.evaluated.section) for each in results.evaluations()}
    for stage, section in sorted(planned, key=lambda place: (results.stages.index(place[0]), place[1])):
        rows, others = (
            frame[(frame["stage"] == stage) & (frame["section"] == section)] for frame in (plain, cases)
        )
        measured = set(rows["arm"])
        for arm in [arm for arm in results.arms if arm in measured][:1]:
            classes = results.several(arm, stage)
            yield _marked(results, rows[rows["arm"] == arm], others[others["arm"] == arm], classes)


def _marked(
    results: StudyResults, rows: pd.DataFrame, others: pd.DataFrame, classes: Sequence[str]
) -> Marked:
    # Sorted, so that no order of rows changes a mean.
    rows = rows.astype(dict.fromkeys(_TEXTS, object)).sort_values(["case", "metric", "repetition", "part"])
    values = rows.groupby(["case", "metric"])["value"].mean().unstack()
    first = rows.drop_duplicates("case").set_index("case")
    parts = pd.Series({case: tuple(sorted(set(each))) for case, each in rows.groupby("case")["part"]})
    names, of = _finer(_labels(list(first.index), others, classes), first["pathology"], classes)
    arm, stage, section = (str(rows[name].iloc[0]) for name in ("arm", "stage", "section"))
    return Marked(
        arm=arm,
        stage=stage,
        section=section,
        metrics=results.metrics.ordered(map(str, values.columns)),
        classes=names,
        cases=first[["name", "patient"]].assign(of=of, parts=parts).join(values).reset_index(),
    )


_TEXTS = ("arm", "stage", "section", "part", "case", "name", "patient", "pathology", "metric")


def _labels(cases: Sequence[str], others: pd.DataFrame, classes: Sequence[str]) -> pd.Series:
    """Returns the class of each image; the classes joined by `+` where it is of several."""
    is_of = others[others["value"] == 1]
    known = {name: set(is_of.loc[is_of["metric"] == f"IS_{name}", "case"]) for name in classes}
    names = ["+".join(name for name in classes if case in known[name]) or NO_CLASS for case in cases]
    return pd.Series(names, index=list(cases), dtype=object)


def _finer(
    labels: pd.Series, pathologies: pd.Series, classes: Sequence[str]
) -> tuple[tuple[str, ...], pd.Series]:
    """Returns names and classes of images: the labels, or the pathologies where there are more of these.

    They stand in the order of the classes that the stage learns, each pathology at its class; the one that
    is called as the class is first.
    """
    of = pathologies if pathologies.nunique() > labels.nunique() else labels
    numbers = {name: number for number, name in enumerate(classes)}
    places = labels.map(lambda label: numbers.get(label.partition("+")[0], len(numbers)))
    lowest = places.groupby(of.to_numpy()).min().to_dict()
    names = sorted(map(str, lowest), key=lambda name: (lowest[name], name not in classes, name))
    return tuple(names), of


class Processed(NamedTuple):
    """The markers of the same images in two sections of a stage.

    Attributes:
        before: Of the images as they are, or after fewer steps.
        after: Of the images after more of the steps of `STEPS`.
        steps: The steps that only these have, with their values.
    """

    before: Marked
    after: Marked
    steps: Mapping[str, Any]


def processed(results: StudyResults, marked: Sequence[Marked]) -> Iterator[Processed]:
    """Yields two sections of a stage that differ in `STEPS` alone, with the images that are in both."""
    for before, after in permutations(marked, 2):
        entries = [results.plan["data"].get(each.section, {}) for each in (before, after)]
        first, second = ({name: entry[name] for name in STEPS if entry.get(name)} for entry in entries)
        alike, other = ({k: v for k, v in e.items() if k not in (*STEPS, "note")} for e in entries)
        is_pair = (before.stage, before.arm, alike) == (after.stage, after.arm, other)
        if is_pair and first.items() < second.items():
            steps = {name: value for name, value in second.items() if name not in first}
            pair = Processed(before.common(after), after.common(before), steps)
            yield from [pair] if len(pair.before.cases) else []


def _rank_sum_p(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Two-sided p of Wilcoxon's rank-sum test (Mann-Whitney).

    Exact where one side has at most 8 values and none are tied, else by the normal approximation with
    continuity correction (`scipy.stats.mannwhitneyu`); R is exact up to 49 values on both sides.
    """
    from scipy import stats

    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if np.ptp(np.concatenate([one, other])) == 0:
        return np.nan
    return float(stats.mannwhitneyu(one, other).pvalue)


def _normal_p(values: Floats) -> float:
    from scipy import stats

    deviation = values.std(ddof=1)
    if not deviation > 0:
        return np.nan
    return float(stats.kstest((values - values.mean()) / deviation, "norm").pvalue)
