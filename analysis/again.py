"""What a report asks stored networks to predict again; the kit does not predict itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

Values = Mapping[str, Mapping[str, float]]
"""Metrics by digest of the case."""


class Again(NamedTuple):
    """Cases of a stored evaluation that are to be predicted again.

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
        temperature: Fitted to its validation cases.
        values: What is measured at this temperature.
    """

    temperature: float
    values: Values


@dataclass(frozen=True)
class Predicting:
    """What predicts; None for what is not asked for.

    Attributes:
        together: Measures the mean of networks; nothing where none is made of them.
        scaled: Scales the probabilities of a network; None where it gives none.
    """

    together: Callable[[list[Again]], Values] | None = None
    scaled: Callable[[Again], Scaled | None] | None = None


NOTHING = Predicting()


def with_values(rows: pd.DataFrame, values: Values) -> pd.DataFrame:
    """Returns the rows of cases with other values; those that these lack are left out."""
    pairs = zip(rows["case"].astype(object), rows["metric"].astype(object), strict=True)
    found = [values.get(case, {}).get(metric) for case, metric in pairs]
    kept = [value is not None for value in found]
    return rows[kept].assign(value=[value for value in found if value is not None])
