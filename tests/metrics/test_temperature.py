"""Temperature scaling of probabilities with known logits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import log_loss as mean_log_loss

from xferlab.metrics.temperature import LARGEST, Outcomes, fitted_temperature, joined, log_loss, scaled

RNG = np.random.default_rng(0)


def test_independent_classes_get_the_temperature_of_their_logits_where_the_slope_is_zero() -> None:
    logits = RNG.normal(0, 2, (1, 20_000))
    truth = (RNG.random(logits.shape) < expit(logits)).astype(float)
    outcomes = Outcomes(expit(2.5 * logits), truth, is_exclusive=False)
    temperature = fitted_temperature(outcomes)
    assert temperature == pytest.approx(2.5, rel=0.05)
    at = expit(2.5 * logits / temperature)
    assert abs(np.mean((at - truth) * logits)) < 1e-4  # the derivative by 1 / T
    assert log_loss(outcomes, temperature) == pytest.approx(mean_log_loss(truth[0], at[0]), rel=1e-5)


def test_exclusive_classes_get_theirs_and_a_set_in_two_parts_gets_the_same() -> None:
    logits = RNG.normal(0, 1.5, (3, 9_000))
    drawn = (RNG.random(9_000) > softmax(logits, axis=0).cumsum(axis=0)).sum(axis=0)
    truth = (np.arange(3)[:, None] == drawn).astype(float)
    whole = Outcomes(softmax(logits / 0.5, axis=0), truth, is_exclusive=True)
    temperature = fitted_temperature(whole)
    assert temperature == pytest.approx(2.0, rel=0.05)
    at = softmax(2 * logits / temperature, axis=0)
    np.testing.assert_allclose(scaled(whole.probability, temperature, is_exclusive=True), at, atol=1e-6)
    assert abs(np.mean(((at - truth) * logits).sum(axis=0))) < 1e-4
    halves = [
        Outcomes(whole.probability[:, part], truth[:, part], is_exclusive=True)
        for part in (slice(4_000), slice(4_000, None))
    ]
    assert fitted_temperature(joined(halves)) == temperature


def test_what_is_most_probable_or_above_a_half_stays_so() -> None:
    several = softmax(RNG.normal(0, 3, (4, 500)), axis=0).astype(np.float32)
    alone = RNG.random((2, 500)).astype(np.float32)
    for temperature in (0.2, 3.0):
        at = scaled(several, temperature, is_exclusive=True)
        assert np.array_equal(at.argmax(axis=0), several.argmax(axis=0))
        assert np.array_equal(scaled(alone, temperature, is_exclusive=False) > 0.5, alone > 0.5)
    np.testing.assert_allclose(scaled(several, 1.0, is_exclusive=True), several, atol=1e-6)


def test_certain_outcomes_have_a_bound_and_none_have_no_temperature() -> None:
    right = Outcomes(np.array([[0.9, 0.2]]), np.array([[1.0, 0.0]]), is_exclusive=False)
    assert 1 / LARGEST <= fitted_temperature(right) < 0.1
    nothing = Outcomes(np.empty((1, 0)), np.empty((1, 0)), is_exclusive=False)
    assert np.isnan(fitted_temperature(nothing))
