"""Curves and thresholds against scikit-learn, and against the areas that belong to them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from xferlab.metrics.curves import (
    called,
    precision_at,
    reliability,
    roc_at,
    sensitive_threshold,
    youden_threshold,
)

SEEDS = range(12)


def drawn(seed: int, *, num: int = 40) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = np.concatenate([[0.0, 1.0], random.integers(0, 2, num - 2)])
    return truth, (random.integers(0, 9, num) if seed % 2 else random.random(num)) + truth


@pytest.mark.parametrize("seed", SEEDS)
def test_what_thresholds_give_is_that_of_scikit_learn(seed: int) -> None:
    truth, score = drawn(seed)
    points = called(truth, score)
    false_positives, sensitivity, thresholds = roc_curve(truth, score, drop_intermediate=False)
    np.testing.assert_allclose(points.thresholds, thresholds[1:])
    np.testing.assert_allclose(points.false_positive_rate, false_positives[1:], atol=1e-15)
    np.testing.assert_allclose(points.sensitivity, sensitivity[1:], atol=1e-15)
    np.testing.assert_allclose(points.precision, precision_recall_curve(truth, score)[0][-2::-1], atol=1e-15)


@pytest.mark.parametrize("seed", SEEDS)
def test_curves_on_a_grid_have_the_areas_of_scikit_learn(seed: int) -> None:
    truth, score = drawn(seed)
    grid = np.linspace(0, 1, 200_001)
    assert np.trapezoid(roc_at(truth, score, grid), grid) == pytest.approx(
        roc_auc_score(truth, score), abs=1e-4
    )
    steps = precision_at(truth, score, (grid[1:] + grid[:-1]) / 2)
    assert steps.mean() == pytest.approx(average_precision_score(truth, score), abs=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_corners_of_a_curve_lie_on_it(seed: int) -> None:
    truth, score = drawn(seed)
    points = called(truth, score)
    last = np.flatnonzero(np.diff(points.false_positive_rate, append=2) > 0)  # of a vertical step
    np.testing.assert_allclose(
        roc_at(truth, score, points.false_positive_rate[last]), points.sensitivity[last], atol=1e-12
    )
    first = np.flatnonzero(np.diff(points.sensitivity, prepend=0.0) > 0)  # that reaches its sensitivity
    assert precision_at(truth, score, np.zeros(1)) == points.precision[first[0]]
    np.testing.assert_allclose(precision_at(truth, score, points.sensitivity[first]), points.precision[first])
    assert roc_at(truth, score, np.array([1.0])) == 1
    perfect = np.linspace(0, 1, 7)
    assert (roc_at(truth, truth, perfect) == 1).all()
    assert (precision_at(truth, truth, perfect) == 1).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_thresholds_are_the_best_of_all(seed: int) -> None:
    truth, score = drawn(seed)

    def reached(threshold: float) -> tuple[float, float]:
        return float((score[truth == 1] >= threshold).mean()), float((score[truth == 0] < threshold).mean())

    youden = {threshold: sum(reached(threshold)) for threshold in score}
    best = max(youden.values())
    assert youden_threshold(truth, score) == max(t for t, value in youden.items() if value > best - 1e-12)
    for wanted in (0.5, 0.9, 1.0):
        reaching = [threshold for threshold in score if reached(threshold)[0] >= wanted]
        assert sensitive_threshold(truth, score, wanted) == max(reaching)


def test_one_kind_of_cases_has_no_curve() -> None:
    grid, score = np.linspace(0, 1, 5), np.arange(4.0)
    for truth in (np.zeros(4), np.ones(4), np.empty(0)):
        scores = score[: len(truth)]
        assert np.isnan(roc_at(truth, scores, grid)).all()
        assert np.isnan(youden_threshold(truth, scores))
        assert np.isnan(precision_at(truth, scores, grid)).all() == (truth.sum() == 0)
        assert np.isnan(sensitive_threshold(truth, scores, 0.9)) == (truth.sum() == 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_reliability_is_that_of_scikit_learn_with_the_last_bin_closed(seed: int) -> None:
    random = np.random.default_rng(seed)
    score = np.concatenate([random.random(40), [1.0]])
    truth = np.concatenate([random.integers(0, 2, 40), [1]]).astype(float)
    given, share = reliability(truth, score)
    expected_share, expected_given = calibration_curve(truth, score, n_bins=15)
    assert len(given) == len(share) == 15
    assert np.isnan(given).sum() == 15 - len(expected_given)
    np.testing.assert_allclose(given[~np.isnan(given)], expected_given)
    np.testing.assert_allclose(share[~np.isnan(share)], expected_share)
