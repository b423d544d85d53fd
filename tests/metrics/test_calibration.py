from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from xferlab.metrics.measuring import measure


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
