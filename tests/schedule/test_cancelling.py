"""Requests to cancel trials: what they do in the graph of a run, and which of them a run obeys."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from tests.schedule.graphs import trial
from xferlab.plan.spec import TrialSpec
from xferlab.records import cancellations, layout
from xferlab.records.cancellations import Answer, Request
from xferlab.records.store import Store
from xferlab.schedule.cancelling import Inbox, names_in_run
from xferlab.schedule.graph import State, TrialGraph
from xferlab.schedule.retry_policy import RetryPolicy

# g is shared by two arms; each has a trial that starts from it.
TRIALS = [trial("g"), trial("p", parents=["g"]), trial("q", parents=["g"]), trial("alone")]
NAMES = {"a/g/r01": "g", "b/g/r01": "g", "a/p/r01": "p", "b/q/r01": "q", "a/alone/r01": "alone"}


class Run:
    """A run with the token `mine`, whose trials run as a test says."""

    def __init__(self, store: Store, *, run: str = "mine"):
        self.store, self.graph, self.listener = store, TrialGraph(TRIALS), Mock()
        self.inbox = Inbox(store, "s", run=run, names=NAMES)
        self.complete: set[str] = set()
        self.policy = RetryPolicy(
            self.graph, store, self.listener, retries=1, inbox=self.inbox,
            is_complete=lambda store, trial: trial.trial_id in self.complete,
        )  # fmt: skip

    def asked(self, *names: str, run: str = "mine", text: str = "") -> Answer | None:
        """Somebody asks, and the run looks twice."""
        path = cancellations.new_request_path("s", run)
        cancellations.write_request(self.store, path, Request.now(names, text))
        for _ in range(2):
            self.inbox.look()
            self.policy.stops()
        request = cancellations.read_request(self.store, path)
        assert request is not None
        return request.answer

    def take(self) -> TrialSpec:
        taken = self.policy.take()
        assert taken is not None
        return taken

    @property
    def states(self) -> dict[str, State]:
        return self.graph.states


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(Store.open(tmp_path))


def test_an_arm_is_cancelled_but_for_what_another_arm_shares(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    answer = run.asked("a/g/r01", "a/p/r01", "a/alone/r01")
    assert answer == Answer(cancelled=["a/alone/r01", "a/p/r01"], shared={"a/g/r01": ["b/g/r01"]})
    assert caplog.messages == ["a/g/r01 is not cancelled: it is also b/g/r01, which is not"]
    assert run.states == {
        "g": State.READY, "p": State.CANCELLED, "q": State.WAITING, "alone": State.CANCELLED,
    }  # fmt: skip
    # Asked for by the other arm, too, it is cancelled, and what starts from it is blocked.
    answer = run.asked("b/g/r01")
    assert answer == Answer(cancelled=["b/g/r01"], blocked=["a/q/r01"])
    assert (run.states["g"], run.states["q"], run.graph.exhausted) == (State.CANCELLED, State.BLOCKED, True)
    assert run.listener.changed.call_args.args[1:] == (State.BLOCKED, "a/g/r01 was cancelled")


def test_an_answer_has_every_name_that_was_asked_for_and_what_is_blocked_once(run: Run) -> None:
    answer = run.asked("a/g/r01", "b/g/r01", "a/alone/r01", "a/alone/r01", "a/p/r01")
    assert answer == Answer(cancelled=["a/alone/r01", "a/p/r01", "a/g/r01", "b/g/r01"], blocked=["a/q/r01"])


def test_a_running_trial_is_cancelled_when_it_has_stopped(run: Run) -> None:
    taken = run.take()
    answer = run.asked("a/g/r01", "b/g/r01", text="too slow")
    assert answer is not None
    assert answer.cancelled == ["a/g/r01", "b/g/r01"]
    assert run.states["g"] is State.RUNNING
    assert list(run.policy.stops()) == ["g"]
    assert run.policy.stops()["g"].startswith("too slow (asked on ")
    run.policy.ended(taken)
    assert (run.states["g"], run.states["q"]) == (State.CANCELLED, State.BLOCKED)
    assert not run.policy.stops()
    assert cancellations.read_cancelled(run.store, "s").keys() == {"g"}
    assert not run.store.exists(layout.TrialFiles("g").failure)
    assert run.take().trial_id == "alone"


def test_a_record_that_was_written_before_the_stop_counts(run: Run) -> None:
    taken = run.take()
    run.asked("a/g/r01", "b/g/r01")
    run.complete.add("g")
    run.policy.ended(taken)
    assert (run.states["g"], run.states["p"]) == (State.COMPLETE, State.READY)
    assert not run.policy.stops()
    answer = run.asked("a/g/r01", "c/g/r01")
    assert answer == Answer(ended={"a/g/r01": "complete"}, unknown=["c/g/r01"])


def test_no_run_obeys_a_request_to_another_or_a_damaged_one(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    assert run.asked("a/alone/r01", run="earlier") is None
    damaged = cancellations.new_request_path("s", "mine")
    run.store.write(damaged, b'{"names": ["a/alone/r01"]}')
    wrong = cancellations.new_request_path("s", "mine")
    cancellations.codec.write_json(run.store, wrong, {"trials": []})
    assert run.asked("a/p/r01") == Answer(cancelled=["a/p/r01"])
    assert run.states["alone"] is State.READY
    assert sum("a request to cancel trials is left out" in line for line in caplog.messages) == 2

    later = Run(run.store, run="later")
    with later.inbox:  # what was meant for earlier runs is gone
        assert run.store.list(layout.StudyFiles("s").requests) == []
        assert cancellations.read_cancelled(run.store, "s") == {}
    later.policy.stops()
    assert set(later.states.values()) == {State.READY, State.WAITING}


def test_arms_that_a_run_leaves_out_want_nothing() -> None:
    trials = [trial("g"), trial("p", parents=["g"]), trial("donor")]
    arms = {"g": ("a", "b"), "p": ("b",), "donor": ("b",)}
    names = {"a/g/r01": "g", "b/g/r01": "g", "b/p/r01": "p", "b/donor/r01": "donor"}
    plan = Mock(trials=[Mock(trial_id=one.trial_id, arms=arms[one.trial_id]) for one in trials], names=names)
    assert names_in_run(plan, trials) == names
    # Arm a alone, with a donor that it takes from arm b.
    assert names_in_run(plan, [trials[0], trials[2]]) == {"a/g/r01": "g", "b/donor/r01": "donor"}
