"""Metrics of sets of cases against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score

from xferlab.metrics.sets import f1


@pytest.mark.parametrize("seed", range(20))
def test_f1_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, called = rng.integers(0, 2, (2, 30)).astype(float)
    truth[0] = 1.0
    assert f1(truth, called) == pytest.approx(f1_score(truth, called), abs=1e-15)


def test_f1_of_nothing() -> None:
    nothing, all_of_it = np.zeros(3), np.ones(3)
    assert math.isnan(f1(nothing, nothing))
    assert f1(all_of_it, nothing) == 0.0
    assert f1(nothing, all_of_it) == 0.0
    assert f1(all_of_it, all_of_it) == 1.0
