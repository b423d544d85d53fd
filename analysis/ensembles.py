"""Ensembles of the repetitions of a stage: what the mean of their networks reaches, beside each by itself."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import pandas as pd

from xferlab.analysis.reprediction import Repredicted, Reprediction, Values, with_values
from xferlab.analysis.results import EvaluationSet
from xferlab.errors import UsageError

MIN_NETWORKS = 2
"""Networks below which an image is left out."""


@dataclass(frozen=True, eq=False)
class Ensemble(Repredicted):
    """What the repetitions of arms that share them reach on a set: each by itself, and their mean.

    `before` are the rows of each network, of images with enough networks. `after` are those of the mean, as
    one repetition.

    Attributes:
        images: A row per image by digest: patient, pathology, and `networks`, the number of repetitions that
            measured it and never saw its patient.
    """

    images: pd.DataFrame


def ensemble_of(
    cases: pd.DataFrame,
    evaluations: Collection[str],
    measure: Callable[[list[Reprediction]], Values],
    *,
    arms: tuple[str, ...],
    evaluated: EvaluationSet,
) -> Ensemble | None:
    """Returns the ensemble of a stage; None where its repetitions are one or make none.

    An image that a repetition measured is in its hold-out or its test part, so that its network never saw the
    patient. Other repetitions may have trained on the patient: they take no part.

    Args:
        cases: The rows of the first arm on the set, of patients that no parent may have seen.
        evaluations: Ids of the evaluations of all repetitions on the set.
        measure: What repredicts.
        arms: The arms.
        evaluated: The set.

    Raises:
        UsageError: No image has several networks, as in a cross-validation without repeats.
    """
    if cases["trial_id"].nunique() < MIN_NETWORKS:
        return None
    images = _images(cases)
    enough = images.index[images["networks"] >= MIN_NETWORKS]
    if not len(enough):
        raise UsageError(
            f"each of the {len(images)} images is in the test part of one repetition only, and an ensemble "
            f"needs {MIN_NETWORKS} networks that never saw its patient"
        )
    single = cases[cases["case"].isin(enough)]
    by_trial = single.groupby("trial_id", observed=True, sort=False)["case"].unique()
    values = measure(
        [Reprediction(str(trial), evaluations, frozenset(found)) for trial, found in by_trial.items()]
    )
    if not values:
        return None
    together = with_values(single.drop_duplicates(["case", "metric"]), values)
    return Ensemble(arms, evaluated, single, together.assign(repetition=1), images)


def _images(cases: pd.DataFrame) -> pd.DataFrame:
    each = cases[["case", "patient", "pathology", "trial_id"]].drop_duplicates()
    by_case = each.astype(object).groupby("case", sort=False)
    return by_case.agg(
        patient=("patient", "first"), pathology=("pathology", "first"), networks=("trial_id", "nunique")
    )
