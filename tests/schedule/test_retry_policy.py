"""What becomes of a trial after an attempt: the one rule of retries, and when a study is given up."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.schedule.graphs import trial
from xferlab.plan.spec import TrialSpec
from xferlab.records import codec, layout, reader
from xferlab.records.store import Store
from xferlab.schedule.graph import State, TrialGraph
from xferlab.schedule.retry_policy import NODE_LOSSES, NODES_TRIED, SAME_ERRORS, RetryPolicy
from xferlab.trial.failure import Failure, lost

AGAIN, FAILED = State.READY, State.FAILED


class Run:
    """A run whose attempts end as a test says.

    Attributes:
        complete: Ids of trials that have all their records.
    """

    def __init__(self, folder: Path, trials: Collection[TrialSpec], *, retries: int = 1):
        self.store, self.graph = Store.open(folder), TrialGraph(list(trials))
        self.complete: set[str] = set()
        self.policy = RetryPolicy(
            self.graph, self.store, Mock(), retries=retries,
            is_complete=lambda store, trial: trial.trial_id in self.complete,
        )  # fmt: skip

    def take(self) -> TrialSpec:
        taken = self.graph.take()
        assert taken is not None
        return taken

    def ended(self, taken: TrialSpec, reported: Failure | None = None, *, node: str = "") -> State:
        self.policy.ended(taken, reported, node=node)
        return self.graph.states[taken.trial_id]

    def fail(self, failure: Failure, *, node: str = "") -> State:
        """The next trial runs and stores a failure."""
        taken = self.take()
        codec.write_json(self.store, layout.TrialFiles(taken.trial_id).failure, failure)
        return self.ended(taken, node=node)

    def finish(self, name: str) -> None:
        """The next trial runs and stores its record."""
        taken = self.take()
        assert taken.trial_id == name
        self.complete.add(name)
        assert self.ended(taken) is State.COMPLETE


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """Starts a run of so many trials, t0 and on, that depend on nothing."""

    def run(number: int, *, retries: int) -> Run:
        return Run(tmp_path, [trial(f"t{k}") for k in range(number)], retries=retries)

    return run


Start = Callable[..., Run]
GONE = lost("its node was preempted", kind="node")


def raised(kind: str, message: str = "no", **known: Any) -> Failure:
    return {**lost(message), "type": "RuntimeError", "kind": kind, **known}


@pytest.mark.parametrize(
    ("retries", "failures", "decisions"),
    [
        (0, [raised("other")], [FAILED]),
        (3, [raised("other")] * 4, [AGAIN, AGAIN, AGAIN, FAILED]),
        (9, [raised("hopeless")], [FAILED]),
        (9, [raised("machine")], [FAILED]),  # it is the only one
        (0, [GONE] * NODE_LOSSES + [raised("other")], [AGAIN] * NODE_LOSSES + [FAILED]),
        (2, [GONE] * (NODE_LOSSES + 3), [AGAIN] * (NODE_LOSSES + 2) + [FAILED]),  # they vanish for ever
    ],
)
def test_a_failure_is_tried_again_as_often_as_its_kind_allows(
    run: Start, retries: int, failures: list[Failure], decisions: list[State]
) -> None:
    started = run(1, retries=retries)
    assert [started.fail(failure) for failure in failures] == decisions
    assert started.graph.states == {"t0": State.FAILED}


def test_what_a_machine_lacks_is_met_once_on_each_and_costs_no_retry(run: Start) -> None:
    started = run(2, retries=0)
    policy, nodes = started.policy, [f"n{number}" for number in range(3)]
    policy.has_other = lambda trial, failed: not failed.issuperset(nodes)
    lacks = raised("machine", "no images there", host="h")
    for number, node in enumerate(nodes[:2]):
        taken = started.take()
        assert policy.failed_on(taken) == {*nodes[:number]}
        assert started.ended(taken, lacks, node=node) is AGAIN
        told = cast("Mock", policy.listener).changed.call_args.args[2]
        assert told == "RuntimeError: no images there; it is tried again, not on h"
    last = started.take()
    assert started.ended(last, lacks, node=nodes[2]) is FAILED
    assert policy.failed_on(last) == frozenset()  # all the same now
    assert started.ended(started.take(), lacks) is FAILED  # nobody knows where it was


def test_a_trial_looks_for_a_machine_on_a_limited_number_of_nodes(run: Start) -> None:
    started = run(1, retries=5)
    started.policy.has_other = lambda trial, failed: True
    decisions = [started.fail(raised("machine"), node=f"n{number}") for number in range(NODES_TRIED)]
    assert decisions == [AGAIN] * (NODES_TRIED - 1) + [FAILED]


@pytest.mark.parametrize("kind", ["other", "device", "lost"])
def test_a_retry_takes_another_node_while_there_is_one(run: Start, kind: str) -> None:
    started = run(1, retries=1)
    others = [True]
    started.policy.has_other = lambda trial, failed: others[0]
    taken = started.take()
    assert started.ended(taken, raised(kind), node="n") is AGAIN
    assert started.policy.failed_on(taken) == {"n"}
    others[0] = False
    assert started.policy.failed_on(taken) == frozenset()


def test_a_trial_is_kept_from_a_node_that_starts_no_worker_and_from_none_that_left(run: Start) -> None:
    started = run(1, retries=0)
    started.policy.has_other = lambda trial, failed: True
    for node, failed_on in (("", frozenset()), ("n", {"n"})):
        taken = started.take()
        assert started.ended(taken, GONE, node=node) is AGAIN
        assert started.policy.failed_on(taken) == failed_on


@pytest.mark.parametrize("retries", [0, 2])
def test_out_of_memory_gets_one_attempt_alone_that_does_not_count(run: Start, retries: int) -> None:
    started = run(2, retries=retries)
    policy, failure = started.policy, raised("memory")
    assert policy.alone("t0") is None
    for _ in range(retries + 1):
        assert started.fail(failure) is AGAIN
        assert (policy.alone("t0"), policy.alone("t1")) == (failure, None)
    assert started.fail(failure) is FAILED
    assert started.graph.states == {"t0": State.FAILED, "t1": State.READY}


def test_a_trial_that_gets_further_each_time_may_lose_any_number_of_nodes(run: Start) -> None:
    started = run(1, retries=0)
    for number in range(3 * NODE_LOSSES):
        started.store.write(f"{layout.TrialFiles('t0').checkpoint}/state-{number // 2:06d}-000000.pt", b"")
        assert started.fail(GONE) is AGAIN


def test_one_error_of_the_first_three_stops_the_study(run: Start) -> None:
    started = run(6, retries=1)
    for number in range(SAME_ERRORS):
        assert started.policy.repeated is None
        started.fail(raised("other", f"a/t{number}/r01: shape ({number}, {number * 7}) of {number:016x}"))
        started.fail(raised("other", f"a/t{number}/r01: shape ({number}, 9) of {number:016x}"))
    repeated = started.policy.repeated
    assert repeated is not None
    assert repeated["message"] == "a/t2/r01: shape (2, 9) of 0000000000000002"
    assert started.graph.counts() == {State.FAILED: 3, State.READY: 3}  # the rest stays open


def test_out_of_memory_stops_it_once_each_was_alone(run: Start) -> None:
    started = run(4, retries=0)
    for _ in range(2 * SAME_ERRORS):
        assert started.policy.repeated is None
        started.fail(raised("memory", "DefaultCPUAllocator: can't allocate memory: you tried 12 bytes"))
    assert started.policy.repeated is not None


@pytest.mark.parametrize(
    "failures",
    [
        [raised("other"), raised("other"), raised("other", "another")],
        [raised("other"), raised("other"), {**raised("other"), "type": "KeyError"}],
        [raised("other"), raised("other"), lost("no")],
        [lost("killed")] * 3,
        [GONE] * 3 * (NODE_LOSSES + 1),
    ],
)
def test_other_errors_among_the_first_and_lost_workers_let_it_go_on(
    run: Start, failures: list[Failure]
) -> None:
    started = run(6, retries=0)
    for failure in [*failures, *[raised("other")] * SAME_ERRORS]:
        started.fail(failure)
    assert started.policy.repeated is None
    assert started.graph.counts() == {State.FAILED: 6}


def test_a_complete_trial_among_the_first_lets_it_go_on(run: Start) -> None:
    started = run(6, retries=0)
    started.complete.add("t1")
    for _ in range(6):
        started.fail(raised("other"))
    assert started.policy.repeated is None
    assert started.graph.counts() == {State.FAILED: 5, State.COMPLETE: 1}


def test_a_lost_worker_does_not_hide_behind_an_older_failure(run: Start) -> None:
    started = run(1, retries=1)
    started.fail(raised("other", "the first", host="h", pid=1))
    started.policy.ended(started.take(), lost("killed", host="h", pid=2, epoch=3))
    stored = reader.read_failure(started.store, "t0")
    assert stored is not None
    assert (stored["type"], stored["message"], stored["epoch"]) == ("WorkerLost", "killed", 3)


def test_what_a_worker_stored_before_it_was_lost_is_kept(run: Start) -> None:
    started = run(1, retries=0)
    taken = started.take()
    stored = raised("device", "CUDA error: an illegal memory access", host="h", pid=2, traceback="Traceback")
    codec.write_json(started.store, layout.TrialFiles("t0").failure, stored)
    started.policy.ended(taken, lost("killed", host="h", pid=2))
    assert reader.read_failure(started.store, "t0") == stored


@settings(max_examples=30, deadline=None)  # every attempt writes files
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["other", "memory", "device", "lost", "hopeless", "node", "machine"]),
            st.sampled_from(["n1", "n2", "n3", "n4"]),
        ),
        max_size=16,
    ),
    st.integers(0, 4),
)
def test_no_history_of_failures_goes_on_for_ever(
    tmp_path_factory: pytest.TempPathFactory, attempts: list[tuple[str, str]], retries: int
) -> None:
    started = Run(tmp_path_factory.mktemp("s"), [trial("a")], retries=retries)
    started.policy.has_other = lambda trial, failed: True  # and yet it comes to the same one again
    decisions, tried = [], []
    for kind, node in [*attempts, *[("node", "n1")] * (NODE_LOSSES + retries + 2)]:
        tried.append(kind)
        decisions.append(started.fail(raised(kind), node=node))
        if decisions[-1] is FAILED:
            break
    free = ("memory" in tried) + min(NODE_LOSSES, tried.count("node")) + min(4, tried.count("machine"))
    assert decisions[-1] is FAILED
    assert len(tried) - free <= retries + 1 or tried[-1] in ("hopeless", "machine")
    assert "hopeless" not in tried[:-1]


@pytest.fixture
def family(tmp_path: Path) -> Run:
    """A complete parent and two children."""
    children = [trial(name, parents=("parent",)) for name in ("first", "second")]
    family = Run(tmp_path, [trial("parent"), *children], retries=0)
    family.finish("parent")
    return family


def test_a_parent_whose_files_are_damaged_is_trained_again_and_its_children_wait(family: Run) -> None:
    children = family.take(), family.take()
    family.complete.clear()  # the first child found it, and set the weights aside
    for child in children:
        assert family.ended(child, lost("the parent's weights are altered")) is State.WAITING
    assert family.graph.states["parent"] is State.READY
    for name in ("parent", "first", "second"):
        family.finish(name)
    assert family.graph.exhausted


def test_a_parent_is_trained_again_once(family: Run) -> None:
    for state in (State.WAITING, FAILED):
        child = family.take()
        family.complete.clear()
        assert family.ended(child, lost("altered")) is state
        if state is State.WAITING:
            family.finish("parent")


def test_children_of_a_parent_that_cannot_be_trained_again_are_blocked(family: Run) -> None:
    child = family.take()
    family.complete.clear()
    assert family.ended(child, lost("altered")) is State.WAITING
    assert family.fail(raised("hopeless")) is FAILED
    states = family.graph.states
    assert (states["first"], states["second"]) == (State.BLOCKED, State.BLOCKED)
