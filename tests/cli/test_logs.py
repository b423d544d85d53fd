"""`xferlab logs`: one trial's lines, by name and by id, from any storage, also while it runs."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import Command
from tests.studies import write_study
from xferlab.cli import logs
from xferlab.records import codec, layout, writer
from xferlab.records.logs import DRIVER, LogFile, LogLine, note
from xferlab.records.store import Store
from xferlab.schedule.lease import Lease
from xferlab.trial.failure import lost, now

TRIAL, ID, CHILD = "baseline/general/r01", "0123456789abcdef", "fedcba9876543210"
PLAN: dict[str, Any] = {
    "version": 1,
    "trials": [
        {
            "trial_id": ID,
            "names": [TRIAL],
            "arms": ["a"],
            "stage": "general",
            "repetition": 1,
            "max_epochs": 9,
        }
    ],
}


@pytest.mark.component
def test_a_finished_trial_tells_its_attempts_and_epochs_by_name_and_id(
    command: Command, tmp_path: Path
) -> None:
    study = write_study(tmp_path)
    storage = ("--storage", tmp_path / "st")
    command("run", study, *storage, "--executor", "in-process", code=0)
    by_name = command("logs", TRIAL, "--study", study, *storage, code=0).out
    lines = by_name.splitlines()
    assert "worker on" in lines[0]
    assert lines[0].endswith("attempt 1 trains from epoch 1 on")
    assert ": epoch 1: " in lines[1]
    assert lines[-1].endswith(": complete")
    trials = json.loads(command("plan", study, *storage, "--json").out)["trials"]
    trial_id = next(trial["trial_id"] for trial in trials if TRIAL in trial["names"])
    assert command("logs", trial_id, *storage, "--follow", code=0).out == by_name
    said = command("logs", "baseline/generl/r01", *storage, code=2)
    assert "Did you mean 'baseline/general/r01'?" in said.err
    assert "weights file" not in said.err


@pytest.fixture
def planned(local: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(logs, "LOCAL_EVERY_S", 0.01)
    codec.write_json(local, layout.StudyFiles("mine").plan, {"study": "mine", **PLAN})
    return local


def test_following_shows_what_comes_and_ends_when_the_driver_gives_the_trial_up(
    command: Command, planned: Store
) -> None:
    entry = {"started": now(), "host": "node7", "pid": 1}
    writer.write_run(planned, ID, {"version": 1, "attempts": [{**entry, "outcome": "running"}]})

    def work() -> None:
        time.sleep(0.2)
        log = LogFile(planned, ID, attempt=1)
        log.add("epoch 1")
        log.close()
        time.sleep(0.2)
        codec.write_json(planned, layout.TrialFiles(ID).failure, lost("its worker was killed"))
        time.sleep(0.2)  # nobody has decided yet
        note(planned, ID, "WorkerLost: its worker was killed; this run does not try it again", level="ERROR")

    with Lease(planned, "mine"):
        worker = threading.Thread(target=work)
        worker.start()
        said = command("logs", TRIAL, "--storage", planned.location, "--follow", code=1)
        worker.join()
    assert said.out.splitlines()[0].rpartition(": ")[2] == "epoch 1"
    assert "ERROR driver on" in said.out
    assert said.err == ""


@pytest.mark.parametrize("followed", [ID, CHILD])
def test_what_an_earlier_run_gave_up_is_followed_while_a_later_run_may_try_it_again(
    command: Command, planned: Store, monkeypatch: pytest.MonkeyPatch, followed: str
) -> None:
    """Also of a trial that is blocked, because the one that it starts from was given up."""
    parent, start = PLAN["trials"][0], {"role": "starts_from", "trials": [ID]}
    child = {**parent, "trial_id": CHILD, "names": ["baseline/portable/r01"], "inputs": [start]}
    plan = {"study": "mine", **PLAN, "trials": [parent, child]}
    codec.write_json(planned, layout.StudyFiles("mine").plan, plan)
    codec.write_json(planned, layout.TrialFiles(ID).failure, lost("its worker was killed"))
    early = LogLine("2020-01-01T00:00:00.000000+00:00", "ERROR", DRIVER, "node7", 1, 0, "run 1 gives up")
    planned.append(f"{layout.TrialFiles(ID).logs}/early.jsonl", json.dumps(asdict(early)).encode() + b"\n")
    words = ("logs", followed, "--storage", planned.location, "--follow")
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            note(planned, ID, "run 2 gives up", level="ERROR")

    monkeypatch.setattr(logs, "time", SimpleNamespace(sleep=sleep))
    command(*words, code=1)
    with Lease(planned, "mine", arms=["another"]):
        command(*words, code=1)
    assert not looks  # no run of its arm goes on
    with Lease(planned, "mine"):
        said = command(*words, code=1)
    assert len(looks) == 3
    assert ("run 2 gives up" in said.out) == (followed == ID)


def test_nobody_works_on_a_trial_so_following_ends(command: Command, planned: Store) -> None:
    said = command("logs", ID, "--storage", planned.location, "--follow", code=1)
    assert said.err.startswith(f"nothing is said of trial {ID}")
