"""Reprediction: what a report asks stored networks to predict again, since no record holds it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import isnan
from typing import NamedTuple

import pandas as pd

from xferlab.analysis.results import EvaluationSet

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


def with_values(rows: pd.DataFrame, values: Values) -> pd.DataFrame:
    """Returns the rows of cases with other values; those that these lack are left out."""
    pairs = zip(rows["case"].astype(object), rows["metric"].astype(object), strict=True)
    found = [values.get(case, {}).get(metric) for case, metric in pairs]
    kept = [value is not None for value in found]
    return rows[kept].assign(value=[value for value in found if value is not None])
