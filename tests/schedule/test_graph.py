"""The readiness rule on random graphs: whatever fails, every trial ends, and for the right reason."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.schedule.graphs import trial
from xferlab.plan.spec import TrialSpec
from xferlab.schedule.graph import Kind, State, TrialGraph, trial_priorities

ENDS = (State.COMPLETE, State.FAILED, State.BLOCKED)
Draws = st.randoms(use_true_random=False)


@st.composite
def graphs(draw: st.DrawFn) -> list[TrialSpec]:
    """Up to twelve trials, parents before children, each with any of the earlier ones as parents."""
    trials: list[TrialSpec] = []
    for number in range(draw(st.integers(1, 12))):
        earlier = [spec.trial_id for spec in trials]
        parents = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3)) if earlier else []
        trials.append(trial(f"t{number}", parents=parents))
    return trials


def some_of(trials: list[TrialSpec]) -> st.SearchStrategy[set[str]]:
    return st.sets(st.sampled_from([spec.trial_id for spec in trials]))


def run(graph: TrialGraph, *, failing: Collection[str], slots: int, draws: random.Random) -> list[str]:
    """Runs a graph with some slots, ending trials in any order; returns the order of starts."""
    running: list[TrialSpec] = []
    started = []
    while True:
        while len(running) < slots and (taken := graph.take()) is not None:
            assert all(graph.states[parent] is State.COMPLETE for parent in taken.parents)
            assert graph.states[taken.trial_id] is State.RUNNING
            running.append(taken)
            started.append(taken.trial_id)
        states = Counter(graph.states.values())
        assert graph.counts() == states
        assert graph.exhausted == (not states[State.WAITING] and not states[State.READY])
        left = [graph.trials[name] for name, state in graph.states.items() if state not in ENDS]
        assert graph.open_kinds() == Counter(map(Kind.of, left))
        if not running:
            return started
        ended = running.pop(draws.randrange(len(running)))
        end = graph.fail if ended.trial_id in failing else graph.complete
        end(ended.trial_id)


def must_be_blocked(trials: list[TrialSpec], *, failed: set[str], complete: set[str]) -> set[str]:
    """By definition: a parent failed or is blocked, and the trial is not complete from before."""
    blocked: set[str] = set()
    for spec in trials:
        if spec.trial_id not in complete and set(spec.parents) & (failed | blocked):
            blocked.add(spec.trial_id)
    return blocked


@given(st.data(), graphs(), st.integers(1, 4), Draws)
def test_every_trial_ends_and_only_descendants_of_failures_are_blocked(
    data: st.DataObject, trials: list[TrialSpec], slots: int, draws: random.Random
) -> None:
    complete, failing = data.draw(some_of(trials)), data.draw(some_of(trials))
    graph = TrialGraph(trials, complete=complete)
    started = run(graph, failing=failing, slots=slots, draws=draws)
    ended = {end: {name for name, state in graph.states.items() if state is end} for end in ENDS}
    assert set.union(*ended.values()) == set(graph.trials)
    assert len(set(started)) == len(started)
    assert not set(started) & complete
    assert ended[State.FAILED] == failing & set(started)
    assert ended[State.BLOCKED] == must_be_blocked(trials, failed=ended[State.FAILED], complete=complete)
    assert graph.exhausted


@given(graphs(), Draws, st.integers(1, 4))
def test_what_is_put_back_runs_again_and_first(
    trials: list[TrialSpec], draws: random.Random, slots: int
) -> None:
    graph = TrialGraph(trials)
    first = graph.take()
    assert first is not None
    for _ in range(2):
        graph.put_back(first.trial_id)
        assert not graph.exhausted
        assert graph.take() == first
    graph.put_back(first.trial_id)
    started = run(graph, failing=(), slots=slots, draws=draws)
    assert started[0] == first.trial_id
    assert sorted(started) == sorted(graph.trials)


def test_a_child_waits_for_all_of_its_parents_and_for_nobody_else() -> None:
    graph = TrialGraph([trial("a"), trial("b"), trial("other"), trial("c", parents=["a", "b"])])
    assert [taken.trial_id for _ in range(3) if (taken := graph.take())] == ["a", "b", "other"]
    for _ in range(2):  # complete twice is complete once
        graph.complete("a")
    assert graph.take() is None
    assert not graph.exhausted
    graph.complete("b")
    assert graph.take() == graph.trials["c"]
    assert graph.states["other"] is State.RUNNING
    assert graph.exhausted


def test_a_finished_child_survives_a_parent_that_is_redone_and_fails() -> None:
    trials = [trial("p"), trial("c", parents=["p"]), trial("g", parents=["c"]), trial("d", parents=["p"])]
    graph = TrialGraph(trials, complete={"c"})
    graph.fail("p")
    assert graph.states == {
        "p": State.FAILED, "c": State.COMPLETE, "g": State.READY, "d": State.BLOCKED,
    }  # fmt: skip


@given(graphs(), st.integers(0, 2**32))
def test_of_what_is_ready_the_highest_priority_starts_and_ancestors_inherit_it(
    trials: list[TrialSpec], seed: int
) -> None:
    draws, of_arms = random.Random(seed), {"high": 2, "none": 0, "low": -1}
    trials = [replace(spec, arms=tuple(draws.sample([*of_arms], draws.randint(1, 3)))) for spec in trials]
    priorities = trial_priorities(trials, {"high": 2, "low": -1})
    for spec in trials:
        needing = {spec.trial_id}
        for other in trials:  # parents before children
            needing |= {other.trial_id} if needing & set(other.parents) else set()
        arms = {arm for other in trials if other.trial_id in needing for arm in other.arms}
        assert priorities[spec.trial_id] == max(of_arms[arm] for arm in arms)
    graph = TrialGraph(trials, priorities=priorities)
    while not graph.exhausted:
        ready = [name for name, state in graph.states.items() if state is State.READY]
        taken = graph.take()
        assert taken is not None
        assert priorities[taken.trial_id] == max(priorities[name] for name in ready)
        if draws.random() < 0.2:
            graph.put_back(taken.trial_id)
        else:
            graph.complete(taken.trial_id)
    plain, equal = TrialGraph(trials), TrialGraph(trials, priorities=dict.fromkeys(priorities, 7))
    orders = [run(g, failing=(), slots=2, draws=random.Random(seed)) for g in (plain, equal)]
    assert orders[0] == orders[1]
