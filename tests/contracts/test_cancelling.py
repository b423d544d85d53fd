"""Trials that are cancelled while a study runs: they stop and keep their state, and the others go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.contracts.runs import Lab
from tests.studies import TINY, attempts, outcomes, recorded
from xferlab.cli.status import states
from xferlab.plan.spec import TrialSpec
from xferlab.records import cancellations
from xferlab.records.cancellations import Request
from xferlab.schedule import in_process
from xferlab.schedule.graph import State
from xferlab.schedule.lease import driver_of
from xferlab.schedule.study import Outcome

STAGES = TINY["stages"]
LONG = {"max_epochs": 60, "patience": 60, "checkpoint_every_s": 60}
ONCE = {"repetitions": 1, "stages": {**STAGES, "general": {**STAGES["general"], "repetitions": 1}}}


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellations, "LOCAL_EVERY_S", 0.02)


def cancels(lab: Lab, *names: str, when: str) -> Callable[[TrialSpec], None]:
    """Asks to cancel trials, once, when a trial has ended an epoch."""
    store, asked = lab.study().store, list[str]()

    def ask(trial: TrialSpec) -> None:
        if trial.name == when and not asked:
            holder = driver_of(store, "tiny")
            assert holder is not None
            asked.append(cancellations.new_request_path("tiny", holder.token))
            cancellations.write_request(store, asked[0], Request.now(names, "too slow"))

    return ask


def shown(lab: Lab, outcome: Outcome) -> dict[str, str]:
    """What `status` says of each trial."""
    trials = list(outcome.graph.trials.values())
    return {row["name"]: row["state"] for row in states(lab.study().store, "tiny", trials)}


def test_a_running_trial_stops_and_keeps_its_state_for_the_next_run(lab: Lab) -> None:
    # Ray hears of an epoch when its worker is some epochs further.
    long = {"max_epochs": 8, "patience": 8} if lab.execute is in_process.execute else LONG
    arms = {"a": {"stages.general.training": long}, "b": {}}
    changes: dict[str, Any] = {**ONCE, "arms": arms, "retries": 0}
    lab.heard.on_epoch = cancels(lab, "a/general/r01", when="a/general/r01")
    session = lab.study(**changes)
    plan = session.plan()
    outcome = lab.run(session, plan)
    assert outcome.ending.signal is None
    assert lab.states(outcome) == {
        "a/general/r01": State.CANCELLED,
        "a/portable/r01": State.BLOCKED,
        "b/general/r01": State.COMPLETE,
        "b/portable/r01": State.COMPLETE,
    }
    assert lab.heard.reason("a/general/r01").startswith("too slow (asked on ")
    assert lab.heard.reason("a/portable/r01") == "a/general/r01 was cancelled"
    assert shown(lab, outcome) == {name: str(state) for name, state in lab.states(outcome).items()}
    cancelled = plan.names["a/general/r01"]
    assert outcomes(lab.storage)[cancelled] == ["interrupted"]
    assert not list(lab.storage.rglob("failure.json"))

    lab.heard.on_epoch = lambda trial: None
    outcome = lab.run(session, plan)
    assert set(lab.states(outcome).values()) == {State.COMPLETE}
    assert outcomes(lab.storage)[cancelled] == ["interrupted", "complete"]
    assert attempts(lab.storage)[cancelled][-1]["first_epoch"] > 1
    assert recorded(lab.storage) == lab.recorded_in_process(**changes)


@pytest.mark.slow
def test_a_trial_that_waits_for_a_worker_never_starts(ray_lab: Lab) -> None:
    arms = {
        "a": {"stages.general.training": LONG},
        "b": {"stages.general.training": {"lr": 0.01}, "stages.general.resources": {"cpu": 2}},
        "c": {"stages.general.training": {"lr": 0.02}, "stages.general.resources": {"cpu": 2}},
    }
    changes: dict[str, Any] = {**ONCE, "arms": arms}
    ray_lab.heard.on_epoch = cancels(ray_lab, "b/general/r01", "c/general/r01", when="a/general/r01")
    session = ray_lab.study(**changes)
    plan = session.plan()
    outcome = ray_lab.run(session, plan)
    assert outcome.ending.signal is None
    arms_states = {name.split("/")[0]: state for name, state in ray_lab.states(outcome).items()}
    assert arms_states == {"a": State.COMPLETE, "b": State.BLOCKED, "c": State.BLOCKED}
    assert not {plan.names["b/general/r01"], plan.names["c/general/r01"]} & outcomes(ray_lab.storage).keys()
    heard = ray_lab.heard
    assert heard.when("b/general/r01", State.CANCELLED) < heard.when("a/general/r01", State.COMPLETE)
