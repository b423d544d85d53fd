"""Draws are a function of seed, purpose, epoch and case; batches are divided without a short one."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xferlab.training.batches import divide, fixed
from xferlab.training.randomness import case_keys, permutation, uniform

DIGESTS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(5000)]
KEYS = case_keys(DIGESTS)


def test_keys_are_the_first_64_bits_of_a_digest():
    assert KEYS.dtype == np.uint64
    assert [f"{int(key):016x}" for key in KEYS[:5]] == [digest[:16] for digest in DIGESTS[:5]]


def test_draws_are_pure_and_belong_to_the_case():
    draws = uniform(KEYS, seed=1, purpose="rotate", epoch=3)
    assert np.array_equal(draws, uniform(KEYS.copy(), seed=1, purpose="rotate", epoch=3))
    chosen = np.array([17, 4, 4000])
    assert np.array_equal(uniform(KEYS[chosen], seed=1, purpose="rotate", epoch=3), draws[chosen])


def test_seed_purpose_and_epoch_each_give_other_draws():
    coordinates = [(1, "rotate", 1), (2, "rotate", 1), (1, "angle", 1), (1, "rotate", 2), (11, "rotate", 1)]
    draws = [uniform(KEYS, seed=seed, purpose=purpose, epoch=epoch) for seed, purpose, epoch in coordinates]
    correlations = np.corrcoef(draws)[np.triu_indices(len(draws), 1)]
    assert np.abs(correlations).max() < 0.06  # 4 standard errors


def test_draws_are_uniform_over_cases_and_over_epochs():
    over_cases = uniform(KEYS, seed=5, purpose="order", epoch=1)
    over_epochs = [uniform(KEYS[:1], seed=5, purpose="order", epoch=epoch)[0] for epoch in range(1, 2001)]
    neighbours = uniform(np.arange(5000, dtype=np.uint64), seed=0, purpose="order", epoch=0)
    assert abs(np.corrcoef(neighbours[:-1], neighbours[1:])[0, 1]) < 0.06
    for draws in (over_cases, np.array(over_epochs), neighbours):
        assert ((draws >= 0) & (draws < 1)).all()
        assert stats.kstest(draws, "uniform").pvalue > 0.001
    assert stats.chisquare(np.histogram(over_cases, bins=50, range=(0, 1))[0]).pvalue > 0.001


def test_a_permutation_visits_every_case_once():
    order = permutation(KEYS, seed=1, epoch=1)
    assert np.array_equal(np.sort(order), np.arange(len(KEYS)))
    assert len(permutation(KEYS[:0], seed=1, epoch=1)) == 0


def test_a_permutation_is_blind_to_the_order_of_its_input():
    visited = KEYS[permutation(KEYS, seed=1, epoch=1)]
    for seed in range(3):
        mixed = np.random.default_rng(seed).permutation(KEYS)
        assert np.array_equal(mixed[permutation(mixed, seed=1, epoch=1)], visited)


def test_epochs_and_seeds_give_other_permutations():
    orders = [permutation(KEYS[:20], seed=s, epoch=e).tolist() for s in (1, 2) for e in (1, 2, 3)]
    assert len({tuple(order) for order in orders}) == 6


def test_every_case_stands_first_equally_often():
    first = [int(permutation(KEYS[:8], seed=3, epoch=epoch)[0]) for epoch in range(1, 1601)]
    assert stats.chisquare(np.bincount(first, minlength=8)).pvalue > 0.001


def test_the_draws_that_trainings_have_run_with_stay_as_they_are():
    """Other draws are other weights under old ids: then TRAINING_VERSION must rise."""
    assert permutation(KEYS[:8], seed=2021, epoch=1).tolist() == [1, 5, 3, 2, 0, 6, 7, 4]
    draws = uniform(KEYS[:2], seed=2021, purpose="angle", epoch=7)
    assert draws.tolist() == [0.5152245623151679, 0.5471683096029892]


few = settings(max_examples=50, deadline=None)


@pytest.mark.parametrize(
    ("num_cases", "batch_size", "sizes"),
    [
        (32, 16, [16, 16]),
        (36, 16, [16, 16, 4]),  # four images are a batch
        (35, 16, [16, 19]),  # three join the batch before
        (33, 16, [16, 17]),
        (17, 16, [17]),
        (16, 16, [16]),
        (5, 16, [5]),  # fewer than a batch are the batch
        (1, 16, [1]),
        (0, 16, []),
        (7, 4, [7]),
        (8, 4, [4, 4]),
        (6, 3, [3, 3]),  # a full batch of three is not short
        (7, 3, [3, 4]),
        (4, 2, [2, 2]),
        (5, 2, [2, 3]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_sizes_of_training_batches(num_cases: int, batch_size: int, sizes: list[int]) -> None:
    assert [len(batch) for batch in divide(np.arange(num_cases), batch_size)] == sizes


@few
@given(st.integers(0, 200), st.integers(1, 40))
def test_all_rows_are_divided_in_order_and_no_batch_is_too_short(num_cases: int, batch_size: int) -> None:
    rows = np.random.default_rng(num_cases).permutation(num_cases)
    batches = divide(rows, batch_size)
    assert np.array_equal(np.concatenate([*batches, np.empty(0, np.intp)]), rows)
    assert all(len(batch) >= min(4, batch_size, num_cases) for batch in batches)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert not batches or len(batches[-1]) < batch_size + 4


@few
@given(st.integers(0, 200), st.integers(1, 40))
def test_validation_batches_are_full_and_in_order(num_cases: int, batch_size: int) -> None:
    batches = fixed(num_cases, batch_size)
    assert np.array_equal(np.concatenate([*batches, np.empty(0, np.intp)]), np.arange(num_cases))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert all(0 < len(batch) <= batch_size for batch in batches)
