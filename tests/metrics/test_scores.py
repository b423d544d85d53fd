"""Calibration and ranking of the pixels of an image, against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from sklearn.metrics import brier_score_loss, roc_auc_score

from xferlab.metrics.image import ScoredImage
from xferlab.metrics.measuring import measure
from xferlab.metrics.ranking import auc

# --- calibration -----------------------------------------------------------------------------------------


def calibration(output, target, **options):
    values = measure(np.asarray(output, dtype=np.float32), np.asarray(target, dtype=bool), **options)
    return values["BRIER"], values["ECE"]


def by_bins(output, target, num_bins=15):
    """Expected calibration error, bin by bin."""
    output, error = output.astype(float).ravel(), 0.0
    for number in range(num_bins):
        low, high = number / num_bins, (number + 1) / num_bins
        inside = (output >= low) & ((output < high) | ((number == num_bins - 1) & (output == 1)))
        if inside.any():
            error += inside.mean() * abs(output[inside].mean() - target.ravel()[inside].mean())
    return error


def test_agrees_with_scikit_learn_and_with_bins_by_hand(scored):
    output, target = scored
    brier, ece = calibration(output, target)
    assert brier == pytest.approx(brier_score_loss(target.ravel(), output.ravel()), rel=1e-6)
    assert ece == pytest.approx(by_bins(output, target), rel=1e-6)


def test_extremes():
    target = np.array([[True, False]])
    assert calibration([[1, 0]], target) == (0.0, 0.0)
    assert calibration([[0, 1]], target) == (1.0, 1.0)


def test_certainty_shares_the_last_bin():
    # Errors of +1 and -0.05 in one bin of two pixels cancel in part.
    assert calibration([[1, 0.95]], [[False, True]])[1] == pytest.approx(0.95 / 2)


def test_what_is_ignored_counts_nowhere():
    ignore = np.array([[False, False, True]])
    assert calibration([[1, 0, 0]], [[True, False, True]], ignore=ignore) == (0.0, 0.0)


# --- ranking ---------------------------------------------------------------------------------------------


def auc_of(output, label) -> float:
    output, label = np.asarray(output, dtype=np.float32).ravel(), np.asarray(label, dtype=bool).ravel()
    return auc.function(ScoredImage(output, label, output[None] > 0.5, label[None]))


@pytest.mark.parametrize("levels", [1, 2, 3, 20, 256, 2**24])
def test_agrees_with_scikit_learn_at_any_number_of_ties(levels):
    rng = np.random.default_rng(levels)
    label = rng.random(4096) < 0.3
    output = (np.floor(np.clip(rng.normal(0.45 + 0.1 * label, 0.2), 0, 1) * levels) / levels).astype(
        np.float32
    )
    assert auc_of(output, label) == pytest.approx(roc_auc_score(label, output), rel=1e-12)


@settings(deadline=None)  # loaded machines, late imports
@given(arrays(np.float32, 12, elements={"min_value": 0, "max_value": 1}), arrays(np.bool_, 12))
def test_is_the_fraction_of_ordered_pairs(output, label):
    pairs = [(float(p > n) + float(p >= n)) / 2 for p in output[label] for n in output[~label]]
    if pairs:
        assert auc_of(output, label) == pytest.approx(sum(pairs) / len(pairs), rel=1e-12)
    else:
        assert math.isnan(auc_of(output, label))


def test_neighbouring_floats_are_told_apart():
    near_one = np.nextafter(np.float32(1), np.float32(0))
    assert auc_of([near_one, 1], [False, True]) == 1
    assert auc_of([0, np.float32(1e-45)], [False, True]) == 1


def test_negative_zero_ties_with_zero():
    assert auc_of([-0.0, 0.0], [False, True]) == 0.5
