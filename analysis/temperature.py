"""Temperature scaling: probabilities before and after one number is fitted to each network."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import pandas as pd

from xferlab.analysis.again import Again, Scaled, with_values
from xferlab.analysis.results import EvaluationSet

OF_PROBABILITIES = ("ECE", "BRIER", "CALIBRATION_ERROR", "LOG_LOSS", "BRIER_SCORE")
"""The metrics that a temperature is to better; others need no more than what is most probable."""


@dataclass(frozen=True, eq=False)
class Calibrated:
    """The networks of arms that share them, on a set.

    Attributes:
        arms: The arms.
        evaluated: The set.
        temperatures: Of each repetition.
        before: Rows of cases, as `load` returns them.
        after: The same at the temperatures.
    """

    arms: tuple[str, ...]
    evaluated: EvaluationSet
    temperatures: pd.Series
    before: pd.DataFrame
    after: pd.DataFrame


def calibrated_of(
    cases: pd.DataFrame,
    evaluations: Collection[str],
    measure: Callable[[Again], Scaled | None],
    *,
    arms: tuple[str, ...],
    evaluated: EvaluationSet,
) -> Calibrated | None:
    """Returns the networks of a stage before and after; None where none gives probabilities.

    Args:
        cases: The rows of the first arm on the set, of patients that no parent may have seen.
        evaluations: Ids of the evaluations of all repetitions on the set.
        measure: What predicts.
        arms: The arms.
        evaluated: The set.
    """
    temperatures, before, after = dict[int, float](), list[pd.DataFrame](), list[pd.DataFrame]()
    for trial, rows in cases.groupby("trial_id", observed=True, sort=False):
        scaled = measure(Again(str(trial), evaluations, frozenset(rows["case"])))
        if scaled is not None:
            temperatures[int(rows["repetition"].iloc[0])] = scaled.temperature
            before.append(rows)
            after.append(with_values(rows, scaled.values))
    if not temperatures:
        return None
    return Calibrated(arms, evaluated, pd.Series(temperatures), pd.concat(before), pd.concat(after))
