"""Temperature scaling: probabilities before and after one number is fitted to each network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import pandas as pd

from xferlab.analysis.reprediction import Repredicted, Reprediction, Scaled, with_values
from xferlab.analysis.results import EvaluationSet
from xferlab.errors import UsageError

OF_PROBABILITIES = ("ECE", "BRIER", "CALIBRATION_ERROR", "LOG_LOSS", "BRIER_SCORE")
"""The metrics that a temperature is to better; others need no more than what is most probable."""


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
                after.append(with_values(rows, scaled.values))
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
