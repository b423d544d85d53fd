"""Metrics of sets of cases against scikit-learn: ties, single classes, and cases that count several times."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from xferlab.metrics.calibration import NUM_BINS
from xferlab.metrics.sets import FUNCTIONS, Given, SetFunction, WithoutEach

CALLS: dict[str, Callable[..., float]] = {
    "accuracy": reference.accuracy_score,
    "balanced_accuracy": reference.balanced_accuracy_score,
    "f1": reference.f1_score,
    "precision": reference.precision_score,
    "sensitivity": reference.recall_score,
    "specificity": lambda truth, called: reference.recall_score(truth, called, pos_label=0),
}
SCORES: dict[str, Callable[..., float]] = {
    "average_precision": reference.average_precision_score,
    "roc_auc": reference.roc_auc_score,
    "expected_calibration_error": lambda truth, score: calibration_error(truth, score),
}


def calibration_error(truth: np.ndarray, score: np.ndarray) -> float:
    """From scikit-learn's curve, whose bins without cases are left out."""
    frequency, mean = calibration_curve(truth, score, n_bins=NUM_BINS)
    counts = np.histogram(score, NUM_BINS, (0, 1))[0]
    return float(np.average(np.abs(frequency - mean), weights=counts[counts > 0]))


def drawn(seed: int, name: str, *, num: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Truth of both classes, with calls, or with scores of which many tie."""
    random = np.random.default_rng(seed)
    truth = np.concatenate([[0.0, 1.0], random.integers(0, 2, num - 2)])
    if name in CALLS:
        return truth, np.concatenate([[1.0], random.integers(0, 2, num - 1)])
    return truth, random.integers(0, 12, num) / 11.7


ORACLES = CALLS | SCORES


def test_every_function_has_its_oracle() -> None:
    assert ORACLES.keys() == FUNCTIONS.keys()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_are_those_of_scikit_learn(name: str, seed: int) -> None:
    truth, given = drawn(seed, name, num=4 + 3 * seed)
    assert FUNCTIONS[name](truth, given) == pytest.approx(ORACLES[name](truth, given), abs=1e-12)


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy"])
def test_several_classes_by_number_are_those_of_scikit_learn(name: str) -> None:
    random = np.random.default_rng(8)
    for _ in range(20):
        truth, called = random.integers(0, 4, (2, 30)).astype(float)
        assert FUNCTIONS[name](truth, called) == pytest.approx(ORACLES[name](truth, called), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_weight_is_how_often_a_case_counts(name: str, seed: int) -> None:
    """Each set of a jackknife or a bootstrap is the set of cases that it stands for."""
    truth, given = drawn(seed, name)
    weights = np.random.default_rng(seed).integers(0, 3, (7, len(truth))).astype(float)
    function, other = FUNCTIONS[name], drawn(seed + 1, name)
    repetitions = np.stack([truth, other[0]]), np.stack([given, other[1]])
    values = function.finish(function.prepare(*repetitions, Given(weights)))
    assert values.shape == (2, 7)
    apart = function.finish(function.prepare(*repetitions, Given(np.stack([weights[:3], weights[4:]]))))
    # The order in which a product of matrices adds depends on their shape, on some machines.
    np.testing.assert_allclose(apart, [values[0, :3], values[1, 4:]], rtol=0, atol=1e-12)
    for value, times in zip(values[0], weights.astype(int), strict=True):
        alone = FUNCTIONS[name](np.repeat(truth, times), np.repeat(given, times))
        assert value == pytest.approx(alone, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_set_without_each_group_is_that_of_the_other_cases(name: str) -> None:
    truth, given = drawn(5, name)
    groups = np.random.default_rng(1).integers(3, 9, len(truth))
    values = FUNCTIONS[name].finish(FUNCTIONS[name].prepare(truth[None], given[None], WithoutEach(groups)))
    expected = [
        FUNCTIONS[name](truth[groups != group], given[groups != group]) for group in np.unique(groups)
    ]
    assert values[0] == pytest.approx(expected, abs=1e-12)


ONES, ZEROS = np.ones(3), np.zeros(3)


@pytest.mark.parametrize(
    ("name", "truth", "given", "value"),
    [
        ("accuracy", ONES, ZEROS, 0.0),
        ("sensitivity", ZEROS, ONES, np.nan),
        ("sensitivity", ONES, ZEROS, 0.0),
        ("specificity", ONES, ONES, np.nan),
        ("specificity", ZEROS, ONES, 0.0),
        ("precision", ONES, ZEROS, np.nan),
        ("precision", ZEROS, ONES, 0.0),
        ("f1", ZEROS, ZEROS, np.nan),
        ("f1", ONES, ZEROS, 0.0),
        ("balanced_accuracy", ONES, ONES, np.nan),
        ("roc_auc", ONES, np.arange(3.0), np.nan),
        ("roc_auc", ZEROS, np.arange(3.0), np.nan),
        ("roc_auc", np.array([0.0, 1, 0]), ONES, 0.5),
        ("average_precision", ZEROS, np.arange(3.0), np.nan),
        ("average_precision", ONES, np.arange(3.0), 1.0),
        ("average_precision", np.array([0.0, 1, 0]), ONES, 1 / 3),
        ("expected_calibration_error", ONES, ONES, 0.0),
        ("expected_calibration_error", ZEROS, ONES, 1.0),
    ],
)
def test_zero_by_zero_is_undefined(name: str, truth: np.ndarray, given: np.ndarray, value: float) -> None:
    assert FUNCTIONS[name](truth, given) == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=list(FUNCTIONS))
def test_a_set_of_no_cases_is_undefined(function: SetFunction) -> None:
    assert np.isnan(function(np.empty(0), np.empty(0)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_order_of_cases_changes_nothing(name: str) -> None:
    truth, given = drawn(3, name, num=200)
    order = np.random.default_rng(0).permutation(200)
    assert FUNCTIONS[name](truth[order], given[order]) == pytest.approx(FUNCTIONS[name](truth, given), 1e-14)
