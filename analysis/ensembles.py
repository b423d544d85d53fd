"""Ensembles of the repetitions of a stage: what the mean of their networks reaches, beside each by itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from xferlab.analysis.results import EvaluationSet

MIN_NETWORKS = 2
"""Networks below which an image is left out."""


class Again(NamedTuple):
    """Cases of a stored evaluation that are to be predicted again.

    Attributes:
        trial_id: The trial whose best weights predict.
        evaluations: Evaluations, of which one is the trial's.
        digests: Its cases.
    """

    trial_id: str
    evaluations: Collection[str]
    digests: Collection[str]


MeasureTogether = Callable[[list[Again]], Mapping[str, Mapping[str, float]]]
"""Returns the metrics of the mean of networks by digest of the case; nothing where none is made of them."""


@dataclass(frozen=True, eq=False)
class Ensemble:
    """What the repetitions of arms that share them reach together on a set.

    Attributes:
        arms: The arms.
        evaluated: The set.
        images: A row per image by digest: patient, pathology, and `networks`, the number of repetitions that
            measured it and never saw its patient.
        single: Rows of cases, as `load` returns them, of each network, of images with enough networks.
        together: The same of their mean, as one repetition.
    """

    arms: tuple[str, ...]
    evaluated: EvaluationSet
    images: pd.DataFrame
    single: pd.DataFrame
    together: pd.DataFrame


def ensembles_of(
    cases: pd.DataFrame,
    evaluations: Collection[str],
    measure: MeasureTogether,
    *,
    arms: tuple[str, ...],
    evaluated: EvaluationSet,
) -> Iterator[Ensemble]:
    """Yields the ensemble of a stage, unless its repetitions are one or make none.

    An image that a repetition measured is in its hold-out or its test part, so that its network never saw the
    patient. Other repetitions may have trained on the patient: they take no part.

    Args:
        cases: The rows of the first arm on the set, of patients that no parent may have seen.
        evaluations: Ids of the evaluations of all repetitions on the set.
        measure: What predicts.
        arms: The arms.
        evaluated: The set.
    """
    images = _images(cases)
    enough = images.index[images["networks"] >= MIN_NETWORKS]
    if cases["trial_id"].nunique() < MIN_NETWORKS:
        return
    single = cases[cases["case"].isin(enough)]
    by_trial = single.groupby("trial_id", observed=True, sort=False)["case"].unique()
    asked = [Again(str(trial), evaluations, frozenset(found)) for trial, found in by_trial.items()]
    values = measure(asked) if asked else {}
    if values or not asked:
        yield Ensemble(arms, evaluated, images, single, _together(single, values))


def _images(cases: pd.DataFrame) -> pd.DataFrame:
    each = cases[["case", "patient", "pathology", "trial_id"]].drop_duplicates()
    by_case = each.astype(object).groupby("case", sort=False)
    return by_case.agg(
        patient=("patient", "first"), pathology=("pathology", "first"), networks=("trial_id", "nunique")
    )


def _together(single: pd.DataFrame, values: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """The rows of one network, with the values of the ensemble; those that it lacks are left out."""
    rows = single.drop_duplicates(["case", "metric"])
    pairs = zip(rows["case"].astype(object), rows["metric"].astype(object), strict=True)
    found = [values.get(case, {}).get(metric) for case, metric in pairs]
    kept = [value is not None for value in found]
    return rows[kept].assign(repetition=1, value=[value for value in found if value is not None])
