"""Samplers: pure where they can be, inside their space always, told what earlier runs found."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xferlab.plan.identity import canonical_json
from xferlab.plan.sample_spec import SampleSpec
from xferlab.records.samples import RepetitionCurve, SampleRecord
from xferlab.search.sampler import OptunaSampler, Sampler, grid_points, sampler_of
from xferlab.study.space import Parameter, Space


def parameter(name: str, kind: Any, *values: Any) -> Parameter:
    return Parameter(f"stages.s.training.{name}", kind, values, f"training.{name}")


def space(*parameters: Parameter) -> Space:
    return Space("space.yaml", parameters)


def finished(number: int, drawn: dict[str, Any], *scores: float, outcome: str = "complete") -> SampleRecord:
    curve = RepetitionCurve("t", scores, len(scores), "")
    return SampleRecord(f"s{number}", "search", number, drawn, outcome, 9, "lower", (curve,))


INTEGERS = st.builds(lambda low, width: ("int", (low, low + width)), st.integers(-9, 9), st.integers(1, 6))
CHOICES = st.tuples(
    st.sampled_from(["choice", "grid"]),
    st.lists(st.one_of(st.none(), st.integers(0, 99)), min_size=1, max_size=4, unique=True),
)
FLOATS = st.builds(
    lambda kind, low, width: (kind, (low, low + width)),
    st.sampled_from(["uniform", "loguniform"]),
    st.floats(1e-6, 1.0),
    st.floats(1e-3, 9.0),
)
FINITE = st.one_of(INTEGERS, CHOICES)


@st.composite
def spaces(draw: st.DrawFn, kinds: Any) -> Space:
    drawn = draw(st.lists(kinds, min_size=1, max_size=4))
    return space(*(parameter(f"p{i}", kind, *values) for i, (kind, values) in enumerate(drawn)))


def within(varied: Parameter, value: Any) -> bool:
    if varied.kind in ("choice", "grid"):
        return canonical_json(value) in map(canonical_json, varied.values)
    whole = isinstance(value, int) if varied.kind == "int" else isinstance(value, float)
    return whole and varied.values[0] <= value <= varied.values[1]


@given(spaces(st.one_of(FINITE, FLOATS)), st.integers(0, 2**62), st.integers(1, 50))
@settings(max_examples=25, deadline=None)
def test_a_random_sample_is_a_pure_function_within_the_space(where: Space, seed: int, number: int) -> None:
    drawn = Sampler(where, seed).draw(number)
    other = Sampler(where, seed)
    for earlier in range(1, min(number, 5)):
        other.draw(earlier)
        other.tell(finished(earlier, {}, 0.5))
    assert other.draw(number) == drawn
    assert list(drawn) == [varied.path for varied in where.parameters]
    assert all(within(varied, drawn[varied.path]) for varied in where.parameters)


@given(spaces(FINITE), st.integers(0, 2**62))
@settings(max_examples=20, deadline=None)
def test_a_finite_space_is_searched_without_repeating_a_point(where: Space, seed: int) -> None:
    size = where.size
    assert size is not None
    sampler = Sampler(where, seed)
    assert len({canonical_json(sampler.draw(number)) for number in range(1, size + 1)}) == size


def test_grids_take_turns_and_all_combinations_come() -> None:
    where = space(
        parameter("a", "grid", 1, 2, 3), parameter("b", "grid", "x", "y"), parameter("c", "uniform", 0, 1)
    )
    drawn = [Sampler(where, 3).draw(number) for number in range(1, 13)]
    pairs = [(point["stages.s.training.a"], point["stages.s.training.b"]) for point in drawn]
    assert pairs[:6] == pairs[6:] == list(itertools.product((1, 2, 3), "xy"))
    assert len({point["stages.s.training.c"] for point in drawn}) == 12
    assert len(grid_points(where)) == 6


def test_draws_fill_a_range_evenly_and_a_logarithm_by_decades() -> None:
    where = space(parameter("u", "uniform", 2.0, 4.0), parameter("l", "loguniform", 1e-4, 1e-1))
    drawn = [Sampler(where, 1).draw(number) for number in range(1, 601)]
    uniform = [point["stages.s.training.u"] for point in drawn]
    decades = [point["stages.s.training.l"] for point in drawn]
    for low in (2.0, 2.5, 3.0, 3.5):
        assert 110 < sum(low <= value < low + 0.5 for value in uniform) < 190
    for low in (1e-4, 1e-3, 1e-2):
        assert 160 < sum(low <= value < 10 * low for value in decades) < 240


def test_another_seed_gives_other_samples() -> None:
    where = space(parameter("u", "uniform", 0.0, 1.0))
    assert Sampler(where, 1).draw(1) != Sampler(where, 2).draw(1)


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
    drawn_first = []
    for number in range(1, 25):
        drawn = first.draw(number)
        assert all(within(varied, drawn[varied.path]) for varied in MIXED.parameters)
        assert drawn["stages.s.training.g"] == "xy"[(number - 1) % 2]
        first.tell(finished(number, drawn, 9.0, worth(drawn)))
        drawn_first.append((number, drawn))
    second = OptunaSampler(MIXED, 4, num_known=24)
    for number, drawn in drawn_first:
        second.tell(finished(number, drawn, 9.0, worth(drawn)))
    later = [second.draw(number) for number in range(25, 37)]
    assert sum(map(worth, later)) / 12 < sum(worth(drawn) for _, drawn in drawn_first[:10]) / 10
    assert not [drawn for _, drawn in drawn_first if drawn in later]


@pytest.mark.component
def test_optuna_takes_stopped_diverged_and_begun_samples() -> None:
    sampler = OptunaSampler(MIXED, 4, num_known=3)
    drawn = [Sampler(MIXED, 4).draw(number) for number in (1, 2, 3)]
    sampler.tell(finished(1, drawn[0], 0.7, 0.6, outcome="stopped"))
    sampler.tell(finished(2, drawn[1], outcome="diverged"))
    sampler.resume(SampleSpec("s3", "search", 3, drawn[2], ()))
    states = [trial.state.name for trial in sampler._study.trials]
    assert states == ["PRUNED", "PRUNED", "RUNNING"]
    assert sampler._study.trials[0].intermediate_values == {1: 0.7, 2: 0.6}
    sampler.tell(finished(3, drawn[2], 0.7, 0.2))
    assert [trial.state.name for trial in sampler._study.trials][2:] == ["FAIL", "COMPLETE"]
    assert sampler._study.best_value == 0.2
    sampler.draw(4)
