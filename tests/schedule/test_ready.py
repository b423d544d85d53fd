"""The readiness rule on random graphs: whatever fails, every trial ends, and for the right reason."""

from __future__ import annotations

import random
from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st

from tests.schedule.graphs import trial
from xferlab.plan.spec import TrialSpec
from xferlab.schedule.ready import Board, State

ENDS = {State.COMPLETE, State.FAILED, State.BLOCKED}


@st.composite
def graphs(draw: st.DrawFn) -> list[TrialSpec]:
    """Up to twelve trials, parents before children, each with any of the earlier ones as parents."""
    trials: list[TrialSpec] = []
    for number in range(draw(st.integers(1, 12))):
        earlier = [one.trial_id for one in trials]
        parents = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3)) if earlier else []
        trials.append(trial(f"t{number}", parents=parents))
    return trials


def some_of(trials: list[TrialSpec]) -> st.SearchStrategy[set[str]]:
    return st.sets(st.sampled_from([one.trial_id for one in trials]))


def run(board: Board, *, failing: Collection[str], slots: int, draws: random.Random) -> list[str]:
    """Runs a board with some slots, ending trials in any order; returns the order of starts."""
    running: list[TrialSpec] = []
    started = []
    while True:
        while len(running) < slots and (one := board.take()) is not None:
            assert all(board.states[parent] is State.COMPLETE for parent in one.parents)
            assert board.states[one.trial_id] is State.RUNNING
            running.append(one)
            started.append(one.trial_id)
        if not running:
            return started
        ended = running.pop(draws.randrange(len(running)))
        end = board.fail if ended.trial_id in failing else board.complete
        end(ended.trial_id)


def must_be_blocked(trials: list[TrialSpec], *, failed: set[str], complete: set[str]) -> set[str]:
    """By definition: a parent failed or is blocked, and the trial is not complete from before."""
    blocked: set[str] = set()
    for one in trials:
        if one.trial_id not in complete and set(one.parents) & (failed | blocked):
            blocked.add(one.trial_id)
    return blocked


@given(st.data(), graphs(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_every_trial_ends_and_only_descendants_of_failures_are_blocked(
    data: st.DataObject, trials: list[TrialSpec], slots: int, draws: random.Random
) -> None:
    complete, failing = data.draw(some_of(trials)), data.draw(some_of(trials))
    board = Board(trials, complete=complete)
    started = run(board, failing=failing, slots=slots, draws=draws)
    ended = {state: {one for one, its in board.states.items() if its is state} for state in ENDS}
    assert set.union(*ended.values()) == set(board.trials)
    assert len(set(started)) == len(started)
    assert not set(started) & complete
    assert ended[State.FAILED] == failing & set(started)
    assert ended[State.BLOCKED] == must_be_blocked(trials, failed=ended[State.FAILED], complete=complete)
    assert board.exhausted
    assert sum(board.counts().values()) == len(trials)


@given(graphs(), st.randoms(use_true_random=False), st.integers(1, 4))
def test_what_is_put_back_runs_again_and_first(
    trials: list[TrialSpec], draws: random.Random, slots: int
) -> None:
    board = Board(trials)
    first = board.take()
    assert first is not None
    board.put_back(first.trial_id)
    assert not board.exhausted
    assert board.take() == first
    board.put_back(first.trial_id)
    started = run(board, failing=(), slots=slots, draws=draws)
    assert started[0] == first.trial_id
    assert sorted(started) == sorted(board.trials)


def test_a_trial_waits_for_all_of_its_parents() -> None:
    board = Board([trial("a"), trial("b"), trial("c", parents=["a", "b"])])
    assert [one.trial_id for one in (board.take(), board.take()) if one] == ["a", "b"]
    board.complete("a")
    assert board.take() is None
    assert not board.exhausted
    board.complete("b")
    assert board.take() == board.trials["c"]
    assert board.exhausted


def test_children_need_not_wait_for_the_rest_of_their_parents_stage() -> None:
    trials = [trial(f"p{k}") for k in (1, 2)] + [trial(f"c{k}", parents=[f"p{k}"]) for k in (1, 2)]
    board = Board(trials)
    board.take(), board.take()
    board.complete("p2")
    assert board.take() == board.trials["c2"]
    assert board.states["p1"] is State.RUNNING


def test_a_finished_child_survives_a_parent_that_is_redone_and_fails() -> None:
    trials = [trial("p"), trial("c", parents=["p"]), trial("g", parents=["c"]), trial("d", parents=["p"])]
    board = Board(trials, complete={"c"})
    board.fail("p")
    assert board.states == {
        "p": State.FAILED, "c": State.COMPLETE, "g": State.READY, "d": State.BLOCKED,
    }  # fmt: skip


def test_complete_twice_is_complete_once() -> None:
    board = Board([trial("a"), trial("b"), trial("c", parents=["a", "b"])])
    board.complete("a")
    board.complete("a")
    assert board.states["c"] is State.WAITING
