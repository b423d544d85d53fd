"""Which cases are looked at first."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xferlab.metrics.extremes import HIGHEST, LOWEST, MAX_WORST, MEDIAN, WORST, badness, num_worst, ranked


def test_the_worst_of_all_and_worst_median_and_best_of_each_group() -> None:
    values = [0.9, 0.1, 0.5, 0.7, 0.3, 0.8, 0.2, math.nan]
    shown = ranked(badness(values, "higher"), ["a", "a", "a", "a", "a", "b", "b", "a"])
    assert list(shown.items()) == [(1, WORST), (6, LOWEST), (2, MEDIAN), (5, HIGHEST), (0, HIGHEST)]


def test_where_less_is_better_the_largest_is_the_worst() -> None:
    assert list(ranked(badness([0.1, 3.0, 1.0], "lower"), ["x"] * 3)) == [1, 2, 0]


def test_equal_values_keep_their_order() -> None:
    assert list(ranked(np.zeros(3), ["x"] * 3).items()) == [(0, WORST), (1, MEDIAN), (2, HIGHEST)]


@pytest.mark.parametrize(("number", "worst"), [(0, 0), (1, 1), (20, 1), (21, 2), (93, 5), (9999, MAX_WORST)])
def test_five_percent_are_rounded_up_and_bounded(number: int, worst: int) -> None:
    assert num_worst(number) == worst


def test_any_values_give_an_order_and_at_most_the_worst_and_three_a_group() -> None:
    draw = np.random.default_rng(7)
    for _ in range(200):
        number = int(draw.integers(0, 120))
        bad = draw.choice([draw.normal(size=number), np.round(draw.normal(size=number))])
        bad[draw.random(number) < 0.1] = np.nan
        groups = [str(each) for each in draw.integers(0, 4, number)]
        shown, defined = ranked(bad, groups), np.flatnonzero(~np.isnan(bad))
        assert all(np.diff(bad[list(shown)]) <= 0)
        assert len(shown) <= num_worst(len(defined)) + 3 * len(set(groups))
        worst = [row for row, why in shown.items() if why == WORST]
        assert len(worst) == num_worst(len(defined))
        rest = np.setdiff1d(defined, worst)
        assert not len(rest) or not worst or bad[rest].max() <= bad[worst].min()
        for group in {groups[row] for row in defined}:
            rows = [row for row in defined if groups[row] == group]
            assert {bad[rows].max(), bad[rows].min()} <= {bad[row] for row in shown if groups[row] == group}
