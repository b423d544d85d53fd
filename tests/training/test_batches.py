from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xferlab.training.batches import divide, fixed

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
