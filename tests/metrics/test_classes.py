"""What is declared and measured of classes: each value by hand, each metric from values that are measured."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from sklearn.metrics import log_loss

from xferlab.metrics.classes import (
    LOG_LOSS,
    NAMED_THRESHOLDS,
    SENSITIVE,
    YOUDEN,
    metrics_of_classes,
    values_of_classes,
)
from xferlab.metrics.sets import FUNCTIONS, MACRO

NAMES = ("well", "ill", "worse")
LIMITS = {YOUDEN: (0.2, 0.1, float("nan")), SENSITIVE: (0.9, 0.3, 0.1)}


def truth_of(*classes: int) -> np.ndarray:
    return np.isin(np.arange(3), classes)


def test_values_of_exclusive_classes() -> None:
    given = np.array([0.2, 0.5, 0.3], dtype=np.float32)
    values = values_of_classes(NAMES, truth_of(2), given, exclusive=True, thresholds=LIMITS)
    assert (values["ACCURACY"], values["LABEL"], values["CALLED"]) == (0.0, 2.0, 1.0)
    assert [values[f"IS_{name}"] for name in NAMES] == [0, 0, 1]
    assert [values[f"P_{name}"] for name in NAMES] == pytest.approx([0.2, 0.5, 0.3])
    assert [values[f"CALLED_{name}"] for name in NAMES] == [0, 1, 0]
    # 0.2 in float32 lies above 0.2 in float64.
    assert [values[f"CALLED_YOUDEN_{name}"] for name in NAMES] == pytest.approx([1, 1, np.nan], nan_ok=True)
    assert [values[f"CALLED_SENSITIVE_{name}"] for name in NAMES] == [0, 1, 1]
    assert values["LOG_LOSS"] == pytest.approx(log_loss([2], given[None], labels=[0, 1, 2]), rel=1e-6)
    assert values["BRIER_SCORE"] == pytest.approx(0.2**2 + 0.5**2 + 0.7**2, rel=1e-6)


def test_values_of_classes_that_do_not_exclude_each_other() -> None:
    given = np.array([0.6, 0.5, 0.7], dtype=np.float32)
    values = values_of_classes(NAMES, truth_of(0, 2), given, exclusive=False)
    assert values["ACCURACY"] == 1.0
    assert np.isnan([values["LABEL"], values["CALLED"]]).all()
    assert [values[f"CALLED_{name}"] for name in NAMES] == [1, 0, 1]  # above 0.5, and not at it
    assert values["LOG_LOSS"] == pytest.approx(-np.log(0.6 * 0.5 * 0.7), rel=1e-6)
    assert values["BRIER_SCORE"] == pytest.approx(0.4**2 + 0.5**2 + 0.3**2, rel=1e-6)
    assert values_of_classes(NAMES, truth_of(0), given, exclusive=False)["ACCURACY"] == 0.0


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_certain_and_wrong_probability_has_a_finite_loss(*, exclusive: bool) -> None:
    values = values_of_classes(NAMES, truth_of(0), np.array([0.0, 1.0, 0.0]), exclusive=exclusive)
    least = 1.2e-7  # as the definition says
    assert "at least 1.2e-7;" in LOG_LOSS.definition
    assert values["LOG_LOSS"] == pytest.approx(-np.log(least) * (1 if exclusive else 2), rel=1e-3)


@pytest.mark.parametrize(("exclusive", "chosen"), [*product([True, False], [(), tuple(NAMED_THRESHOLDS)])])
def test_what_is_measured_is_what_metrics_are_made_of(*, exclusive: bool, chosen: tuple[str, ...]) -> None:
    declared = metrics_of_classes(NAMES, thresholds=chosen)
    names = dict.fromkeys(
        name for metric in declared for name in (metric.made_of if metric.computed_by else [metric.name])
    )
    limits = {name: LIMITS[name] for name in chosen}
    values = values_of_classes(
        NAMES, truth_of(1), np.array([0.2, 0.5, 0.3]), exclusive=exclusive, thresholds=limits
    )
    assert list(values) == list(names)
    assert len({metric.name for metric in declared}) == len(declared)


def test_metrics_of_a_class_are_one_by_one_those_of_all() -> None:
    declared = metrics_of_classes(NAMES, thresholds=NAMED_THRESHOLDS)
    whole = {metric.name: metric for metric in declared if not metric.of}
    for metric in declared:
        if metric.of:
            assert metric.whole in whole
            assert metric.computed_by in FUNCTIONS
            assert metric.made_of[0] == f"IS_{metric.of}"
    for metric in whole.values():
        if metric.computed_by == MACRO:
            assert {other.of for other in declared if other.whole == metric.name} == {"", *NAMES}
    without = metrics_of_classes((), thresholds=NAMED_THRESHOLDS)
    assert without == tuple(whole.values())
