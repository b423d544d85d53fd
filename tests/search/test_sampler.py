"""Samplers: pure where they can be, inside their space always, told what earlier runs found."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xferlab.plan.identity import canonical_json
from xferlab.search.sampler import OptunaSampler, RandomSampler, grid_points, sampler_of
from xferlab.study.space import Parameter, Space


def parameter(name: str, kind: Any, *values: Any) -> Parameter:
    return Parameter(f"stages.s.training.{name}", kind, values, f"training.{name}")


def space(*parameters: Parameter) -> Space:
    return Space("space.yaml", "s", parameters)


FINITE = st.one_of(
    st.tuples(st.just("int"), st.tuples(st.integers(-9, 9), st.integers(1, 6))).map(
        lambda one: (one[0], (one[1][0], one[1][0] + one[1][1]))
    ),
    st.tuples(
        st.sampled_from(["choice", "grid"]),
        st.lists(st.one_of(st.none(), st.integers(0, 99)), min_size=1, max_size=4, unique=True).map(tuple),
    ),
)
FLOATS = st.tuples(
    st.sampled_from(["uniform", "loguniform"]),
    st.tuples(st.floats(1e-6, 1.0), st.floats(1e-3, 9.0)).map(lambda one: (one[0], one[0] + one[1])),
)


def spaces(kinds: Any) -> Any:
    return st.lists(kinds, min_size=1, max_size=4).map(
        lambda given: space(*(parameter(f"p{i}", kind, *values) for i, (kind, values) in enumerate(given)))
    )


def within(one: Parameter, value: Any) -> bool:
    if one.kind in ("choice", "grid"):
        return any(canonical_json(value) == canonical_json(other) for other in one.values)
    whole = isinstance(value, int) if one.kind == "int" else isinstance(value, float)
    return whole and one.values[0] <= value <= one.values[1]


@given(spaces(st.one_of(FINITE, FLOATS)), st.integers(0, 2**62), st.integers(1, 50))
@settings(max_examples=25, deadline=None)
def test_a_random_sample_is_a_pure_function_within_the_space(where: Space, seed: int, number: int) -> None:
    drawn = RandomSampler(where, seed).draw(number)
    other = RandomSampler(where, seed)
    for earlier in range(1, min(number, 5)):
        other.draw(earlier)
        other.tell(earlier, {}, [0.5], outcome="complete")
    assert other.draw(number) == drawn
    assert list(drawn) == [one.path for one in where.parameters]
    assert all(within(one, drawn[one.path]) for one in where.parameters)


@given(spaces(FINITE), st.integers(0, 2**62))
@settings(max_examples=20, deadline=None)
def test_a_finite_space_is_searched_without_repeating_a_point(where: Space, seed: int) -> None:
    size = where.size
    assert size is not None
    sampler = RandomSampler(where, seed)
    assert len({canonical_json(sampler.draw(number)) for number in range(1, size + 1)}) == size


def test_grids_take_turns_and_all_combinations_come() -> None:
    where = space(
        parameter("a", "grid", 1, 2, 3), parameter("b", "grid", "x", "y"), parameter("c", "uniform", 0, 1)
    )
    drawn = [RandomSampler(where, 3).draw(number) for number in range(1, 13)]
    pairs = [(one["stages.s.training.a"], one["stages.s.training.b"]) for one in drawn]
    assert pairs[:6] == pairs[6:] == list(itertools.product((1, 2, 3), "xy"))
    assert len({one["stages.s.training.c"] for one in drawn}) == 12
    assert len(grid_points(where)) == 6


def test_draws_fill_a_range_evenly_and_a_logarithm_by_decades() -> None:
    where = space(parameter("u", "uniform", 2.0, 4.0), parameter("l", "loguniform", 1e-4, 1e-1))
    drawn = [RandomSampler(where, 1).draw(number) for number in range(1, 601)]
    uniform = [one["stages.s.training.u"] for one in drawn]
    decades = [one["stages.s.training.l"] for one in drawn]
    for low in (2.0, 2.5, 3.0, 3.5):
        assert 110 < sum(low <= value < low + 0.5 for value in uniform) < 190
    for low in (1e-4, 1e-3, 1e-2):
        assert 160 < sum(low <= value < 10 * low for value in decades) < 240


def test_another_seed_gives_other_samples() -> None:
    where = space(parameter("u", "uniform", 0.0, 1.0))
    assert RandomSampler(where, 1).draw(1) != RandomSampler(where, 2).draw(1)


MIXED = space(
    parameter("lr", "loguniform", 1e-4, 1.0),
    parameter("n", "int", 1, 9),
    parameter("r", "choice", None, {"degrees": 5.0}),
    parameter("g", "grid", "x", "y"),
)


def worth(drawn: dict[str, Any]) -> float:
    return abs(float(drawn["stages.s.training.lr"]) - 0.03) + 0.01 * int(drawn["stages.s.training.n"])


@pytest.mark.component  # Optuna takes a third of a second to import
def test_optuna_learns_from_what_earlier_runs_found() -> None:
    first = sampler_of("optuna", MIXED, 4)
    found = []
    for number in range(1, 25):
        drawn = first.draw(number)
        assert all(within(one, drawn[one.path]) for one in MIXED.parameters)
        assert drawn["stages.s.training.g"] == "xy"[(number - 1) % 2]
        first.tell(number, drawn, [9.0, worth(drawn)], outcome="complete")
        found.append((number, drawn))
    second = OptunaSampler(MIXED, 4, num_known=24)
    for number, drawn in found:
        second.tell(number, drawn, [9.0, worth(drawn)], outcome="complete")
    later = [second.draw(number) for number in range(25, 37)]
    assert sum(map(worth, later)) / 12 < sum(worth(one) for _, one in found[:10]) / 10
    assert all(one not in [drawn for _, drawn in found] for one in later)


@pytest.mark.component
def test_optuna_takes_stopped_diverged_and_begun_samples() -> None:
    sampler = OptunaSampler(MIXED, 4, num_known=3)
    drawn = [RandomSampler(MIXED, 4).draw(number) for number in (1, 2, 3)]
    sampler.tell(1, drawn[0], [0.7, 0.6], outcome="stopped")
    sampler.tell(2, drawn[1], [], outcome="diverged")
    sampler.resume(3, drawn[2])
    states = [one.state.name for one in sampler._study.trials]
    assert states == ["PRUNED", "PRUNED", "RUNNING"]
    assert sampler._study.trials[0].intermediate_values == {1: 0.7, 2: 0.6}
    sampler.tell(3, drawn[2], [0.7, 0.2], outcome="complete")
    assert [one.state.name for one in sampler._study.trials][2:] == ["FAIL", "COMPLETE"]
    assert sampler._study.best_value == 0.2
    sampler.draw(4)
