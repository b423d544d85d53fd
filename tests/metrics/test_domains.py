"""A classifier of domains: scikit-learn's ridge, and drawn images under a known shift and its inverse."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from xferlab.metrics.domains import PENALTY, DomainClassifier, features_of

Images = np.ndarray


def drawn(number: int, seed: int, side: int = 32) -> Images:
    """Blobs of light on noise."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side
    centre, width = random.uniform(0.3, 0.7, (2, number, 1, 1)), random.uniform(0.1, 0.3, (number, 1, 1))
    blobs = np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / width**2)
    return (0.15 + 0.6 * blobs + random.normal(0, 0.03, (number, side, side))).clip(0.01, 1)


def test_it_is_the_ridge_classifier_of_scikit_learn():
    first, second = features_of(drawn(12, 1)), features_of(drawn(30, 2) ** 1.2)
    own = DomainClassifier.fit(first, second)
    standard = (np.concatenate([first, second]) - own.mean) / own.deviation
    other = RidgeClassifier(alpha=PENALTY, class_weight="balanced").fit(standard, [0] * 12 + [1] * 30)
    assert own.weights == pytest.approx(other.coef_.ravel(), abs=1e-8)
    assert other.intercept_ == pytest.approx(0.0, abs=1e-8)
    assert np.array_equal(own.is_second(second), other.predict(standard[12:]) == 1)


@pytest.mark.parametrize(
    "shift", [lambda x: x**2, lambda x: 0.8 * x + 0.1, lambda x: np.fft.fftshift(x, axes=2)]
)
def test_a_shift_is_told_and_its_inverse_makes_domains_alike(shift):
    own = DomainClassifier.fit(features_of(drawn(40, 1)), features_of(shift(drawn(40, 2))))
    first, images = features_of(drawn(40, 3)), drawn(40, 4)
    assert own.accuracy(first, features_of(shift(images))) > 0.95
    assert own.accuracy(first, features_of(images)) == pytest.approx(0.5, abs=0.05)


def test_domains_that_are_alike_are_told_by_chance():
    own = DomainClassifier.fit(features_of(drawn(60, 1)), features_of(drawn(60, 2)))
    assert own.accuracy(features_of(drawn(200, 3)), features_of(drawn(200, 4))) == pytest.approx(0.5, abs=0.1)


def test_features_by_hand():
    image = np.zeros((1, 16, 16))
    image[0, :8] = 1.0
    image[0, 0, 0] = 7.0  # clipped
    features = features_of(image)[0]
    assert features[[0, 31]].tolist() == [0.5, 0.5]
    assert features[32:96].tolist() == [1.0] * 32 + [0.0] * 32
    wave = 0.5 + 0.25 * np.cos(2 * np.pi * 3 * np.arange(16) / 16)
    energies = features_of(np.broadcast_to(wave, (1, 16, 16)))[0, 96:]
    assert len(energies) == 4
    assert energies.argmax() == 1  # from 2 cycles on
    assert (np.delete(energies, 1) < -11).all()
