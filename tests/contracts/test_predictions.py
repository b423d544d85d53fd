"""Stages that take predictions: two arms at once, a lost producer, a gate that lets nobody pass."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.contracts.runs import Lab
from tests.studies import outcomes, recorded
from tests.takes import takes
from tests.trial.conftest import flip_bit
from xferlab.schedule.graph import State

pytestmark = pytest.mark.usefixtures("added_tasks")

ARMS = {"a": {}, "b": {"stages.seen.masks.keep": "outside"}}
LOST = ("a/lungs/r01/f1", "a/kinds/r01")


def study() -> dict[str, Any]:
    return takes(out_of_fold=2, repetitions=1, arms=ARMS, retries=2)


def test_arms_take_the_same_predictions_and_lost_producers_are_trained_again(lab: Lab) -> None:
    session = lab.study(**study())
    plan = session.plan()
    outcome = lab.run(session, plan)
    assert set(lab.states(outcome).values()) == {State.COMPLETE}
    records = recorded(lab.storage)
    assert records == lab.recorded_in_process(**study())
    for name in LOST:
        flip_bit(lab.trial_dir(plan, name) / "checkpoint" / "best.safetensors")
    for arm in ARMS:
        shutil.rmtree(lab.trial_dir(plan, f"{arm}/seen/r01"))
    shutil.rmtree(lab.storage / "predictions")
    lab.heard.events.clear()
    outcome = lab.run(session, plan)
    assert set(lab.states(outcome).values()) == {State.COMPLETE}
    assert recorded(lab.storage) == records
    for name in LOST:
        assert lab.heard.reason(name) == "its files are damaged; it is trained again"
        assert len(outcomes(lab.storage)[plan.names[name]]) == 2
    assert len(outcomes(lab.storage)[plan.names["a/lungs/r01"]]) == 1
