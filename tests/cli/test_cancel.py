"""`xferlab cancel`: what is asked of a run from another process, what it answers, and what is refused."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_json import document
from tests.conftest import Command
from tests.contracts.runs import Heard
from tests.end_to_end.processes import eventually
from tests.studies import TINY, environment, outcomes, write_study, xferlab
from tests.studies import command as words_of
from xferlab.analysis import load_study
from xferlab.cli import cancel, watch
from xferlab.cli.options import StudyOptions
from xferlab.cli.session import Session
from xferlab.records import cancellations, layout
from xferlab.schedule.cancelling import Inbox, names_in_run
from xferlab.schedule.graph import TrialGraph
from xferlab.schedule.lease import Lease
from xferlab.schedule.retry_policy import RetryPolicy
from xferlab.schedule.study import publish


@contextmanager
def driven(session: Session) -> Iterator[RetryPolicy]:
    """A driver that hands out nothing, and reads requests."""
    plan, over = session.plan(), threading.Event()
    publish(plan, session.store)
    with (
        Lease(session.store, session.study) as lease,
        Inbox(session.store, session.study, run=lease.token, names=names_in_run(plan, plan.trials)) as inbox,
    ):
        policy = RetryPolicy(TrialGraph(plan.trials), session.store, Heard(), retries=0, inbox=inbox)

        def look() -> None:
            while not over.wait(0.01):
                policy.stops()

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield policy
        finally:
            over.set()
            thread.join()


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setattr(cancellations, "LOCAL_EVERY_S", 0.01)
    return Session.open(StudyOptions(study=str(write_study(tmp_path))))


def test_an_arm_and_a_shared_trial_are_cancelled_and_shown(session: Session, command: Command) -> None:
    study = session.loaded.path
    with driven(session):
        told = document(command("cancel", study, "baseline", "--reason", "too\nwide ", "--json", code=0))
        shared = {f"baseline/general/r0{k}": [f"still/general/r0{k}"] for k in (1, 2)}
        own = ["baseline/portable/r02", "baseline/portable/r01"]
        assert told == {
            "study": "tiny", "answered": True, "cancelled": own, "blocked": [], "shared": shared, "ended": {},
            "unknown": [],
        }  # fmt: skip
        said = command("cancel", study, "still/general/r01", code=0).out.splitlines()
        assert said == [
            "cancelled: still/general/r01",
            "not started, since they start from cancelled ones: still/portable/r01",
            "the next `xferlab run` starts them again",
        ]
        said = command("cancel", study, "baseline/general/r02", code=1).out.splitlines()
        assert said == ["baseline/general/r02 goes on: it is also still/general/r02; cancel all to cancel it"]
    rows = {row["name"]: row for row in document(command("status", study, "--json", code=1))["trials"]}
    assert {name: row["state"] for name, row in rows.items()} == {
        "baseline/general/r01": "cancelled", "baseline/general/r02": "waiting",
        "baseline/portable/r01": "cancelled", "baseline/portable/r02": "cancelled",
        "still/portable/r01": "blocked", "still/portable/r02": "waiting",
    }  # fmt: skip
    assert rows["baseline/portable/r01"]["reason"].startswith("too wide (asked on ")
    assert "cancelled: too wide (asked on " in command("status", study, code=1).out
    told = watch._told(rows["baseline/portable/r01"])
    assert told.startswith("baseline/portable/r01 cancelled: too wide (asked on ")
    states = load_study(session.store, "tiny").trials.set_index(["arm", "stage", "repetition"])["reason"]
    assert states["baseline", "portable", 1] == "cancelled in the last run"
    assert states["still", "portable", 2] == "not started"
    archived = document(command("archive", study, "--out", "tiny.zip", "--json", code=1))["missing"]
    reasons = {each["name"]: each["reason"] for each in archived}
    assert reasons["baseline/portable/r01"] == "not complete: cancelled in the last run"
    assert reasons["still/portable/r02"] == "not complete: not started"
    # A request is deleted when its answer has arrived.
    assert not [name for name, _ in session.store.walk(layout.StudyFiles("tiny").requests)]


def test_what_cannot_be_cancelled_is_told_and_nothing_is_asked(
    session: Session, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = session.loaded.path
    said = command("cancel", study, "baseline", code=2).err
    assert "no run of study tiny is under way in" in said
    with Lease(session.store, "tiny"):
        assert "it has not run here" in command("cancel", study, "baseline", code=2).err
    with driven(session):
        for wrong, nearest in (("basline", "baseline"), ("still/portble", "still/portable")):
            assert f"Did you mean '{nearest}'?" in command("cancel", study, wrong, code=2).err
        complete = session.plan().trials[0]
        monkeypatch.setattr(cancel, "complete_trials", lambda *_: {complete.trial_id: None})
        said = command("cancel", study, complete.trial_id, code=2).err
        assert "complete already: there is nothing to cancel" in said
    monkeypatch.setattr(cancel, "ANSWER_WITHIN_S", 0.05)
    with Lease(session.store, "tiny"):  # it still decodes images
        told = document(command("cancel", study, "baseline", "--json", code=1))
        assert (told["answered"], told["cancelled"]) == (False, [])


@pytest.mark.slow
def test_a_run_in_another_process_cancels_goes_on_and_the_next_run_says_so(tmp_path: Path) -> None:
    stages = {**TINY["stages"], "general": {**TINY["stages"]["general"], "repetitions": 1}}
    long = {"stages.general.training": {"max_epochs": 60, "patience": 60}}
    changes: dict[str, Any] = {"repetitions": 1, "stages": stages, "arms": {"a": long, "b": {}}}
    study = write_study(tmp_path, **changes)
    where = (study, "--storage", tmp_path / "st")
    running = words_of("run", *where, "--executor", "in-process")
    with subprocess.Popen(
        running, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        eventually(lambda: list((tmp_path / "st").glob("trials/*/progress.jsonl")), process)
        said = xferlab(tmp_path, "cancel", *where, "a", "--reason", "too slow", code=0).stdout.splitlines()
        assert said[0] == "cancelled: a/general/r01, a/portable/r01"
        out, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "a/general/r01 cancelled: too slow (asked on " in out
    assert out.splitlines()[-1] == (
        "2 of 4 trials complete, 0 failed, 0 blocked, 2 cancelled; the same command starts again what was "
        "cancelled"
    )
    told = json.loads(xferlab(tmp_path, "status", *where, "--json", code=1).stdout)
    assert told["counts"] == {"cancelled": 2, "complete": 2}
    again = xferlab(tmp_path, "run", *where, "--executor", "in-process", code=0).stdout
    assert "cancelled in the last run, and started again: a/general/r01, a/portable/r01" in again
    assert sorted(outcomes(tmp_path / "st").values())[-1] == ["interrupted", "complete"]
