"""What executors make of failures by their kind: memory, device, and one error of all trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.contracts.runs import Lab
from tests.studies import attempts, outcomes, recorded, write_study, xferlab
from xferlab.records import reader
from xferlab.schedule import in_process
from xferlab.schedule.graph import State

GENERAL = {"data": "general", "evaluate_on": ["general.test"]}


def one_stage(repetitions: int, **changes: Any) -> dict[str, Any]:
    stages = {"general": {**GENERAL, "repetitions": repetitions}}
    return {"stages": stages, "repetitions": repetitions, "arms": {"a": {}}, **changes}


def named(lab: Lab, name: str) -> Lab:
    """A lab in a folder whose name makes errors of the storage look like others."""
    (lab.folder / name).mkdir()
    return Lab(lab.folder / name, lab.execute)


def test_a_trial_out_of_memory_is_tried_once_more_alone(lab: Lab) -> None:
    lab = named(lab, "can't allocate memory")
    session = lab.study(**one_stage(6, retries=0))
    plan = session.plan()
    unlucky = ["a/general/r02", "a/general/r05"]
    lab.obstruct(*(plan.names[name] for name in unlucky))
    outcome = lab.run(session, plan)
    for name in unlucky:
        failure = reader.read_failure(session.store, plan.names[name])
        assert failure is not None
        assert failure["kind"] == "memory"
        assert outcomes(lab.storage)[plan.names[name]] == ["failed", "failed"]
    states = lab.states(outcome)
    assert {name for name, state in states.items() if state is State.FAILED} == set(unlucky)
    running: set[str] = set()
    seen: dict[str, int] = {}
    for name, state, _ in lab.heard.events:
        if state is State.RUNNING:
            seen[name] = seen.get(name, 0) + 1
            running.add(name)
            alone = [trial for trial in running if trial in unlucky and seen[trial] == 2]
            assert not alone or (running == set(alone) and len(alone) == 1)
        else:
            running.discard(name)
    assert {name for name, count in seen.items() if count == 2} == set(unlucky)


def test_one_error_of_the_first_three_trials_leaves_the_rest_open(lab: Lab) -> None:
    session = lab.study(**one_stage(7, retries=0))
    plan = session.plan()
    obstacles = lab.obstruct(*plan.by_id)
    outcome = lab.run(session, plan)
    assert outcome.ending.signal is None
    repeated = outcome.ending.repeated
    assert repeated is not None
    assert (repeated["type"], repeated["kind"]) == ("StorageError", "other")
    counts = outcome.graph.counts()
    assert counts == {State.FAILED: 3, State.READY: 4}
    for obstacle in obstacles:
        obstacle.rmdir()
    outcome = lab.run(session)
    assert set(lab.states(outcome).values()) == {State.COMPLETE}


@pytest.mark.slow
def test_a_process_that_met_an_error_of_the_device_runs_nothing_more(
    ray_lab: Lab,
) -> None:
    lab = named(ray_lab, "CUDA error: an illegal memory access was encountered")
    session = lab.study(**one_stage(6, retries=2))
    plan = session.plan()
    unlucky = [plan.names[f"a/general/r0{number}"] for number in (1, 4)]
    lab.obstruct(*unlucky)
    lab.run(session, plan)
    tries = [attempt for of_trial in attempts(lab.storage).values() for attempt in of_trial]
    failed = [attempt for attempt in tries if attempt["outcome"] == "failed"]
    assert [attempt["failure"]["kind"] for attempt in failed] == ["device"] * 6
    assert len({attempt["pid"] for attempt in failed}) == 6
    for last in failed:
        assert last["ended"] >= max(other["ended"] for other in tries if other["pid"] == last["pid"])


@pytest.mark.slow
def test_the_command_shows_one_traceback_and_what_to_do(tmp_path: Path) -> None:
    study = write_study(tmp_path, **one_stage(5, retries=0))
    words = ("run", study, "--storage", tmp_path / "results", "--executor", "in-process")
    lab = Lab(tmp_path, in_process.execute)
    lab.obstruct(*lab.study(**one_stage(5, retries=0)).plan().by_id)
    run = xferlab(tmp_path, *words, code=1)
    assert run.stderr.count("in run_trial") == 1
    assert "progress.jsonl: cannot be written" in run.stderr
    last = run.stderr.splitlines()[-1]
    assert last.startswith("xferlab: stopped: the first 3 trials all failed with this error, on ")
    assert "; 2 trials stay open. Fix the cause, and the same command continues; " in last
    assert recorded(lab.storage) == {}
