"""What every executor does, in this process or on Ray: order, failures, retries, blocking, healing."""

from __future__ import annotations

import signal

from tests.contracts.runs import Lab
from tests.studies import TINY, attempts, outcomes, recorded
from xferlab.records import reader
from xferlab.schedule import in_process
from xferlab.schedule.graph import State

WILD = {"baseline": {}, "wild": {"stages.general.training": {"lr": 1e30}}}
LONG = {"max_epochs": 150, "patience": 150}
ONE_STAGE = {"general": {"data": "general", "repetitions": 1, "evaluate_on": ["general.test"]}}
ONCE = {
    "repetitions": 1,
    "stages": {**TINY["stages"], "general": {**TINY["stages"]["general"], "repetitions": 1}},
}


def test_all_complete_with_parents_before_children(lab: Lab) -> None:
    session = lab.study()
    outcome = lab.run(session)
    assert outcome.ending.signal is None
    assert set(lab.states(outcome).values()) == {State.COMPLETE}
    for trial in outcome.graph.trials.values():
        assert lab.heard.times(trial.name, State.RUNNING) == lab.heard.times(trial.name, State.COMPLETE) == 1
        for parent in trial.parents:
            name = outcome.graph.trials[parent].name
            assert lab.heard.when(name, State.COMPLETE) < lab.heard.when(trial.name, State.RUNNING)


def test_a_failure_that_must_come_again_is_not_retried_and_blocks_its_descendants_only(lab: Lab) -> None:
    session = lab.study(**ONCE, arms=WILD, retries=3)
    plan = session.plan()
    outcome = lab.run(session, plan)
    assert outcome.ending.signal is None
    assert lab.states(outcome) == {
        "baseline/general/r01": State.COMPLETE,
        "baseline/portable/r01": State.COMPLETE,
        "wild/general/r01": State.FAILED,
        "wild/portable/r01": State.BLOCKED,
    }
    assert "NonFiniteLossError: the training loss became " in lab.heard.reason("wild/general/r01")
    assert lab.heard.reason("wild/portable/r01") == "wild/general/r01 failed"
    ended = outcomes(lab.storage)
    assert ended[plan.names["wild/general/r01"]] == ["failed"]
    assert plan.names["wild/portable/r01"] not in ended
    failure = reader.read_failure(session.store, plan.names["wild/general/r01"])
    assert failure is not None
    assert failure["type"] == "NonFiniteLossError"
    assert "in run_trial" in failure["traceback"]


def test_another_failure_is_retried_then_healed_and_nothing_finished_runs_twice(lab: Lab) -> None:
    session = lab.study(retries=2)
    plan = session.plan()
    failed = plan.names["baseline/general/r01"]
    (obstacle,) = lab.obstruct(failed)
    outcome = lab.run(session, plan)
    states = lab.states(outcome)
    assert {name for name, state in states.items() if state is State.FAILED} == {"baseline/general/r01"}
    assert {name for name, state in states.items() if state is State.BLOCKED} == {
        "baseline/portable/r01", "still/portable/r01",
    }  # fmt: skip
    assert "progress.jsonl: cannot be written" in lab.heard.reason("baseline/general/r01")
    tries = attempts(lab.storage)[failed]
    assert [attempt["outcome"] for attempt in tries] == ["failed"] * 3
    assert all("cannot be written" in attempt["failure"]["message"] for attempt in tries)

    obstacle.rmdir()
    outcome = lab.run(session)
    assert set(lab.states(outcome).values()) == {State.COMPLETE}
    ended = outcomes(lab.storage)
    assert ended.pop(failed) == ["failed"] * 3 + ["complete"]
    assert list(ended.values()) == [["complete"]] * 5
    assert not list(lab.storage.rglob("failure.json"))


def test_a_retry_that_succeeds_leaves_the_failure_as_an_entry(lab: Lab) -> None:
    session = lab.study(**ONCE, retries=1, arms={"baseline": {}})
    plan = session.plan()
    trial_dir = lab.trial_dir(plan, "baseline/general/r01")
    # A folder in the way of the first evaluation: what the first attempt trained is there for the second.
    evaluation = plan.by_id[trial_dir.name].evaluations[0].evaluation_id
    obstacle = trial_dir / "evaluations" / evaluation
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("in the way")
    lab.run(session, plan)
    obstacle.unlink()
    outcome = lab.run(session)
    assert set(lab.states(outcome).values()) == {State.COMPLETE}
    assert outcomes(lab.storage)[trial_dir.name] == ["failed", "failed", "complete"]
    assert attempts(lab.storage)[trial_dir.name][-1]["first_epoch"] == 5
    assert not (trial_dir / "failure.json").exists()


def test_an_interrupted_run_goes_on_to_the_same_bytes(lab: Lab) -> None:
    # Ray hears of an epoch when its worker is some epochs further.
    long = {"max_epochs": 15, "patience": 15} if lab.execute is in_process.execute else LONG
    changes = {
        "training": {**TINY["training"], **long, "checkpoint_every_s": 60},
        "stages": ONE_STAGE,
        "data": {"general": TINY["data"]["general"]},
        "arms": {"a": {}},
    }
    session = lab.study(**changes)
    raised = []

    def interrupt(trial: object) -> None:
        if not raised:
            raised.append(True)
            signal.raise_signal(signal.SIGINT)

    lab.heard.on_epoch = interrupt
    outcome = lab.run(session)
    assert outcome.ending.signal is not None
    assert set(lab.states(outcome).values()) == {State.READY}
    assert list(outcomes(lab.storage).values()) == [["interrupted"]]
    assert not list(lab.storage.rglob("failure.json"))
    assert not list(lab.storage.rglob("driver.lease"))
    outcome = lab.run(session)
    assert outcome.ending.signal is None
    assert set(lab.states(outcome).values()) == {State.COMPLETE}
    assert recorded(lab.storage) == lab.recorded_in_process(**changes)
