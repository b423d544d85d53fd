"""Reprediction: what a report asks stored networks to predict again, since no record holds it.

An ensemble is the mean of the networks of a stage's repetitions, beside each by itself. Temperature scaling
divides the logits of each network by one number, which is fitted to its validation cases.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import isnan
from typing import NamedTuple

import pandas as pd

from xferlab.analysis.results import EvaluationSet
from xferlab.errors import UsageError

MIN_NETWORKS = 2
"""Networks below which an image is left out of an ensemble."""

OF_PROBABILITIES = ("ECE", "BRIER", "CALIBRATION_ERROR", "LOG_LOSS", "BRIER_SCORE")
"""The metrics that a temperature is to better; others need no more than what is most probable."""

Values = Mapping[str, Mapping[str, float]]
"""Metrics by digest of the case."""


class Reprediction(NamedTuple):
    """Cases of a stored evaluation that a network is to predict again.

    Attributes:
        trial_id: The trial whose best weights predict.
        evaluations: Ids of evaluations, of which one is the trial's.
        digests: Its cases.
    """

    trial_id: str
    evaluations: Collection[str]
    digests: Collection[str]


class Scaled(NamedTuple):
    """A network whose probabilities are scaled.

    Attributes:
        temperature: Fitted to its validation cases; NaN where these say nothing.
        values: What is measured at this temperature.
        num_validation: How many validation cases it has.
        num_seen: How many of these took no part in the fit, since networks that it descends from may have
            trained on their patients.
    """

    temperature: float
    values: Values
    num_validation: int
    num_seen: int

    @property
    def is_fitted(self) -> bool:
        """Whether it has a temperature."""
        return not isnan(self.temperature)


@dataclass(frozen=True)
class Repredictor:
    """What repredicts; None for what is not asked for.

    Attributes:
        together: Measures the mean of networks; nothing where none is made of them.
        scaled: Scales the probabilities of a network; None where it gives none.
    """

    together: Callable[[list[Reprediction]], Values] | None = None
    scaled: Callable[[Reprediction], Scaled | None] | None = None


NOTHING = Repredictor()


@dataclass(frozen=True, eq=False)
class Repredicted:
    """Cases of arms that share them, as they were measured and as they are after reprediction.

    Attributes:
        arms: The arms.
        evaluated: The set.
        before: Rows of cases, as `load` returns them.
        after: The same with other values.
    """

    arms: tuple[str, ...]
    evaluated: EvaluationSet
    before: pd.DataFrame
    after: pd.DataFrame


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
    together = _with_values(single.drop_duplicates(["case", "metric"]), values)
    return Ensemble(arms, evaluated, single, together.assign(repetition=1), images)


def _images(cases: pd.DataFrame) -> pd.DataFrame:
    each = cases[["case", "patient", "pathology", "trial_id"]].drop_duplicates()
    by_case = each.astype(object).groupby("case", sort=False)
    return by_case.agg(
        patient=("patient", "first"), pathology=("pathology", "first"), networks=("trial_id", "nunique")
    )


@dataclass(frozen=True, eq=False)
class Calibrated(Repredicted):
    """The networks of arms that share them, on a set, before and after scaling.

    Attributes:
        scaled: The network of each repetition; `before` and `after` are of those with a temperature.
    """

    scaled: Mapping[int, Scaled]

    @property
    def temperatures(self) -> pd.Series:
        """Of each repetition that has one."""
        return pd.Series({n: each.temperature for n, each in self.scaled.items() if each.is_fitted})


def calibrated_of(
    cases: pd.DataFrame,
    evaluations: Collection[str],
    measure: Callable[[Reprediction], Scaled | None],
    *,
    arms: tuple[str, ...],
    evaluated: EvaluationSet,
) -> Calibrated | None:
    """Returns the networks of a stage before and after; None where none gives probabilities.

    Args:
        cases: The rows of the first arm on the set, of patients that no parent may have seen.
        evaluations: Ids of the evaluations of all repetitions on the set.
        measure: What repredicts.
        arms: The arms.
        evaluated: The set.

    Raises:
        UsageError: No network has validation cases to fit a temperature to.
    """
    networks, before, after = dict[int, Scaled](), list[pd.DataFrame](), list[pd.DataFrame]()
    for trial, rows in cases.groupby("trial_id", observed=True, sort=False):
        scaled = measure(Reprediction(str(trial), evaluations, frozenset(rows["case"])))
        if scaled is not None:
            networks[int(rows["repetition"].iloc[0])] = scaled
            if scaled.is_fitted:
                before.append(rows)
                after.append(_with_values(rows, scaled.values))
    if not networks:
        return None
    if not before:
        seen = sum(network.num_seen for network in networks.values())
        number = sum(network.num_validation for network in networks.values())
        raise UsageError(
            "there is no validation image to fit a temperature to; of "
            f"{number}, {seen} are of patients on whom a parent network may have trained"
        )
    return Calibrated(arms, evaluated, pd.concat(before), pd.concat(after), networks)


def _with_values(rows: pd.DataFrame, values: Values) -> pd.DataFrame:
    """Returns the rows of cases with other values; those that these lack are left out."""
    pairs = zip(rows["case"].astype(object), rows["metric"].astype(object), strict=True)
    found = [values.get(case, {}).get(metric) for case, metric in pairs]
    kept = [value is not None for value in found]
    return rows[kept].assign(value=[value for value in found if value is not None])
