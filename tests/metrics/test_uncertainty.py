"""Entropies against SciPy, and what must hold of the agreement of networks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from xferlab.metrics.uncertainty import LARGEST_SD, Uncertainty, entropy, largest_entropy


def drawn(*, num: int = 5, classes: int = 3) -> np.ndarray:
    """Probabilities of exclusive classes of each network and pixel, (N, K, 4, 6)."""
    drawn = np.random.default_rng(7).dirichlet(np.full(classes, 0.3), size=(num, 4, 6))
    return np.moveaxis(drawn, -1, 1).astype(np.float32)


def test_entropy_is_that_of_scipy() -> None:
    (p,) = drawn(num=1)
    assert np.allclose(entropy(p, is_exclusive=True), stats.entropy(p, axis=0), atol=1e-6)
    each = sum(stats.bernoulli(one).entropy() for one in p.astype(float))
    assert np.allclose(entropy(p, is_exclusive=False), each, atol=1e-5)


@pytest.mark.parametrize("is_exclusive", [True, False])
def test_all_lie_between_their_bounds(is_exclusive: bool) -> None:
    uncertainty = Uncertainty.of(drawn(), is_exclusive=is_exclusive)
    most = largest_entropy(3, is_exclusive=is_exclusive)
    assert (uncertainty.mutual_information >= 0).all()
    assert (uncertainty.mutual_information <= uncertainty.entropy).all()
    assert (uncertainty.entropy <= most + 1e-6).all()
    assert (uncertainty.disagreement > 0).all()
    assert (uncertainty.disagreement <= LARGEST_SD).all()
    even = np.full((2, 3), 1 / 3 if is_exclusive else 0.5, np.float32)
    assert Uncertainty.of(even, is_exclusive=is_exclusive).entropy == pytest.approx(most, rel=1e-6)


def test_networks_that_say_the_same_disagree_in_nothing_and_opposites_in_all() -> None:
    alone = Uncertainty.of(drawn(num=1), is_exclusive=True)
    assert not alone.disagreement.any()
    assert not alone.mutual_information.any()
    opposites = Uncertainty.of(np.eye(2, dtype=np.float32), is_exclusive=True)
    assert opposites.columns() == {
        "entropy": round(np.log(2), 6), "mutual_information": round(np.log(2), 6), "disagreement": LARGEST_SD,
    }  # fmt: skip
