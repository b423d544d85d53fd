"""What becomes of a trial after an attempt: the one rule of retries, and when a study is given up."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.schedule.graphs import trial
from xferlab.plan.spec import TrialSpec
from xferlab.records import codec, layout, reader
from xferlab.records.store import Store
from xferlab.schedule import retry_policy
from xferlab.schedule.graph import State, TrialGraph
from xferlab.schedule.listener import Silent
from xferlab.schedule.retry_policy import NODE_LOSSES, SAME_ERRORS, Decision, RetryPolicy
from xferlab.trial.failure import Failure, lost


@dataclass
class Ends:
    """Drives a board and a court: every attempt ends as told.

    Attributes:
        store: Where failures go.
        court: Under test.
        started: Names of trials, in the order of their attempts.
        whole: Names of trials whose records are complete, where a test says so.
    """

    store: Store
    policy: RetryPolicy
    started: list[str] = field(default_factory=list)
    whole: set[str] = field(default_factory=set)

    @staticmethod
    def of(folder: Path, trials: list[TrialSpec], *, retries: int = 1) -> Ends:
        store = Store.open(folder)
        return Ends(store, RetryPolicy(TrialGraph(trials), store, Silent(), retries=retries))

    def attempt(self, failure: Failure) -> Decision:
        """The next trial runs and writes a failure."""
        one = self.policy.graph.take()
        assert one is not None
        self.started.append(one.trial_id)
        codec.write_json(self.store, layout.TrialFiles(one.trial_id).failure, failure)
        return self.policy.ended(one)


def raised(kind: str, message: str = "no", **known: Any) -> Failure:
    return {**lost(message), "type": "RuntimeError", "kind": kind, **known}


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_failure_is_tried_again_as_often_as_the_study_says(tmp_path: Path, retries: int) -> None:
    ends = Ends.of(tmp_path, [trial("a")], retries=retries)
    for _ in range(retries):
        assert ends.attempt(raised("other")) is Decision.AGAIN
        assert ends.policy.graph.states["a"] is State.READY
    assert ends.attempt(raised("other")) is Decision.FAILED
    assert ends.policy.graph.exhausted


def test_what_must_come_again_is_not_tried_again(tmp_path: Path) -> None:
    ends = Ends.of(tmp_path, [trial("a"), trial("b", parents=["a"])], retries=9)
    assert ends.attempt(raised("hopeless")) is Decision.FAILED
    assert ends.policy.graph.states == {"a": State.FAILED, "b": State.BLOCKED}


@pytest.mark.parametrize("retries", [0, 2])
def test_want_of_memory_gets_one_attempt_alone_that_does_not_count(tmp_path: Path, retries: int) -> None:
    ends = Ends.of(tmp_path, [trial("a"), trial("b")], retries=retries)
    assert ends.policy.alone("a") is None
    assert ends.attempt(raised("memory")) is Decision.AGAIN
    assert ends.started == ["a"]
    alone = ends.policy.alone("a")
    assert alone is not None
    assert alone["kind"] == "memory"
    assert ends.policy.alone("b") is None
    for _ in range(retries):
        assert ends.attempt(raised("memory")) is Decision.AGAIN
        assert ends.policy.alone("a") == alone
    assert ends.attempt(raised("memory")) is Decision.FAILED
    assert set(ends.started) == {"a"}


def gone() -> Failure:
    return lost("its node was preempted", kind="node")


def test_losses_of_nodes_cost_no_retry(tmp_path: Path) -> None:
    ends = Ends.of(tmp_path, [trial("a")], retries=0)
    for _ in range(NODE_LOSSES):
        assert ends.attempt(gone()) is Decision.AGAIN
    assert ends.attempt(raised("other")) is Decision.FAILED


def test_a_trial_whose_nodes_vanish_for_ever_ends(tmp_path: Path) -> None:
    ends = Ends.of(tmp_path, [trial("a")], retries=2)
    verdicts = [ends.attempt(gone()) for _ in range(NODE_LOSSES + 3)]
    assert verdicts == [Decision.AGAIN] * (NODE_LOSSES + 2) + [Decision.FAILED]


def test_a_trial_that_gets_further_each_time_may_lose_any_number_of_nodes(tmp_path: Path) -> None:
    ends = Ends.of(tmp_path, [trial("a")], retries=0)
    for number in range(3 * NODE_LOSSES):
        ends.store.write(f"{layout.TrialFiles('a').checkpoint}/state-{number // 2:06d}-000000.pt", b"")
        assert ends.attempt(gone()) is Decision.AGAIN


def test_lost_nodes_are_not_one_error_of_the_study(tmp_path: Path) -> None:
    ends = Ends.of(tmp_path, trials(4), retries=0)
    for _ in range(4 * (NODE_LOSSES + 1)):
        ends.attempt(gone())
    assert ends.policy.repeated is None
    assert ends.policy.graph.counts() == {State.FAILED: 4}


def trials(number: int) -> list[TrialSpec]:
    return [trial(f"t{k}") for k in range(number)]


def test_one_error_of_the_first_three_stops_the_study(tmp_path: Path) -> None:
    ends = Ends.of(tmp_path, trials(6), retries=1)
    for number in range(SAME_ERRORS):
        assert ends.policy.repeated is None
        ends.attempt(raised("other", f"a/t{number}/r01: shape ({number}, {number * 7}) of {number:016x}"))
        ends.attempt(raised("other", f"a/t{number}/r01: shape ({number}, 9) of {number:016x}"))
    repeated = ends.policy.repeated
    assert repeated is not None
    assert repeated["message"] == "a/t2/r01: shape (2, 9) of 0000000000000002"
    states = ends.policy.graph.counts()
    assert states == {State.FAILED: 3, State.READY: 3}  # the rest stays open


@pytest.mark.parametrize(
    "third", [raised("other", "another"), {**raised("other"), "type": "KeyError"}, {**lost("no")}]
)
def test_another_error_among_the_first_three_lets_it_go_on(tmp_path: Path, third: Failure) -> None:
    ends = Ends.of(tmp_path, trials(6), retries=0)
    for failure in (
        raised("other"),
        raised("other"),
        third,
        raised("other"),
        raised("other"),
        raised("other"),
    ):
        ends.attempt(failure)
    assert ends.policy.repeated is None
    assert ends.policy.graph.counts() == {State.FAILED: 6}


def test_lost_workers_do_not_stop_a_study(tmp_path: Path) -> None:
    ends = Ends.of(tmp_path, trials(4), retries=0)
    for _ in range(4):
        ends.attempt(lost("killed"))
    assert ends.policy.repeated is None


def test_memory_does_once_each_was_alone(tmp_path: Path) -> None:
    ends = Ends.of(tmp_path, trials(4), retries=0)
    for _ in range(6):
        assert ends.policy.repeated is None
        ends.attempt(raised("memory", "DefaultCPUAllocator: can't allocate memory: you tried 12 bytes"))
    assert ends.policy.repeated is not None


def test_a_complete_trial_among_the_first_lets_it_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = Ends.of(tmp_path, trials(6), retries=0)
    monkeypatch.setattr(
        "xferlab.schedule.retry_policy.is_complete", lambda store, spec: spec.trial_id == "t1"
    )
    for _ in range(6):
        ends.attempt(raised("other"))
    assert ends.policy.repeated is None
    assert ends.policy.graph.counts() == {State.FAILED: 5, State.COMPLETE: 1}


def test_a_lost_worker_hides_behind_no_older_failure(tmp_path: Path) -> None:
    ends = Ends.of(tmp_path, [trial("a")], retries=1)
    ends.attempt(raised("other", "the first", host="h", pid=1))
    one = ends.policy.graph.take()
    assert one is not None
    ends.policy.ended(one, lost("killed", host="h", pid=2, epoch=3))
    stored = reader.read_failure(ends.store, "a")
    assert stored is not None
    assert (stored["type"], stored["message"], stored["epoch"]) == ("WorkerLost", "killed", 3)


def test_what_a_worker_wrote_before_it_was_lost_is_kept(tmp_path: Path) -> None:
    ends = Ends.of(tmp_path, [trial("a")], retries=0)
    one = ends.policy.graph.take()
    assert one is not None
    own = raised("device", "CUDA error: an illegal memory access", host="h", pid=2, traceback="Traceback")
    codec.write_json(ends.store, layout.TrialFiles("a").failure, own)
    ends.policy.ended(one, lost("killed", host="h", pid=2))
    assert reader.read_failure(ends.store, "a") == own


@settings(max_examples=30, deadline=None)  # every attempt writes files
@given(
    st.lists(st.sampled_from(["other", "memory", "device", "lost", "hopeless", "node"]), max_size=12),
    st.integers(0, 4),
)
def test_no_history_of_failures_goes_on_for_ever(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str], retries: int
) -> None:
    ends = Ends.of(tmp_path_factory.mktemp("s"), [trial("a")], retries=retries)
    verdicts = []
    for kind in [*kinds, *["node"] * (NODE_LOSSES + retries + 2)]:
        verdicts.append(ends.attempt(raised(kind)))
        if verdicts[-1] is Decision.FAILED:
            break
    tried = [*kinds, *["node"] * (NODE_LOSSES + retries + 2)][: len(verdicts)]
    free = ("memory" in tried) + min(NODE_LOSSES, tried.count("node"))
    assert verdicts[-1] is Decision.FAILED
    assert len(tried) - free <= retries + 1 or tried[-1] == "hopeless"
    assert "hopeless" not in tried[:-1]


def completed(ends: Ends, name: str) -> None:
    """A trial that ran and left its records."""
    one = ends.policy.graph.take()
    assert one is not None
    assert one.trial_id == name
    ends.whole.add(name)
    assert ends.policy.ended(one) is Decision.COMPLETE


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ends:
    """A parent and two children; what is complete is said by `whole`."""
    children = [trial(name, parents=("parent",)) for name in ("first", "second")]
    ends = Ends.of(tmp_path, [trial("parent"), *children], retries=0)
    monkeypatch.setattr(retry_policy, "is_complete", lambda store, spec: spec.trial_id in ends.whole)
    return ends


def test_a_parent_whose_files_are_damaged_is_made_anew_and_its_children_wait(family: Ends) -> None:
    completed(family, "parent")
    graph, policy = family.policy.graph, family.policy
    first, second = graph.take(), graph.take()
    assert first is not None
    assert second is not None
    family.whole.clear()  # the first child found it, and set the weights aside
    for child in (first, second):
        assert policy.ended(child, lost("the parent's weights are altered")) is Decision.AGAIN
        assert graph.states[child.trial_id] is State.WAITING
    assert graph.states["parent"] is State.READY
    completed(family, "parent")
    completed(family, "first")
    completed(family, "second")
    assert graph.exhausted


def test_a_parent_is_made_anew_once(family: Ends) -> None:
    completed(family, "parent")
    for verdict in (Decision.AGAIN, Decision.FAILED):
        child = family.policy.graph.take()
        assert child is not None
        family.whole.clear()
        assert family.policy.ended(child, lost("altered")) is verdict
        if verdict is Decision.AGAIN:
            completed(family, "parent")


def test_children_of_a_parent_that_cannot_be_made_anew_are_blocked(family: Ends) -> None:
    completed(family, "parent")
    child = family.policy.graph.take()
    assert child is not None
    family.whole.clear()
    assert family.policy.ended(child, lost("altered")) is Decision.AGAIN
    assert family.attempt(raised("hopeless")) is Decision.FAILED
    states = family.policy.graph.states
    assert (states["first"], states["second"]) == (State.BLOCKED, State.BLOCKED)
