"""`xferlab watch`: what is told of a running study from its storage, and how long it still takes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.cli.test_status import attempt
from tests.conftest import Command
from tests.studies import write_study
from xferlab.cli import watch
from xferlab.cli.last_plan import compare
from xferlab.cli.options import WatchOptions
from xferlab.cli.status import chosen_states
from xferlab.cli.watch import left_s
from xferlab.records import codec, layout
from xferlab.records.store import Store
from xferlab.schedule.lease import Lease
from xferlab.trial.failure import lost


def row(name: str, state: str, *, epochs: int = 0, stage: str = "g", **more: Any) -> dict[str, Any]:
    return {"trial_id": name, "state": state, "stage": stage, "epochs": epochs, "max_epochs": 20, **more}


def test_the_time_left_comes_from_epochs_of_like_trials() -> None:
    assert left_s([row("a", "running"), row("b", "waiting")]) == ({}, None)
    first = row("a", "running", epochs=5, epoch_s=2.0)
    assert left_s([first, row("b", "waiting")]) == ({"a": 30.0}, 30.0 + 40.0)
    # Trials of this stage ended after 10 epochs; nothing is known of the other stage.
    rows = [first, row("c", "complete", epochs=10), row("d", "running", stage="p"), row("e", "blocked")]
    assert left_s(rows) == ({"a": 10.0, "d": 40.0}, 25.0)
    assert left_s([row("a", "running", epochs=20, epoch_s=2.0)]) == ({"a": 2.0}, 2.0)  # it is measured


def test_a_study_is_watched_until_someone_stops_it(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, storage = write_study(tmp_path, arms={"baseline": {}}), Store.open(tmp_path / "xferlab-results")
    first, second, *_ = (t["trial_id"] for t in json.loads(command("status", path, "--json").out)["trials"])
    looks = iter(range(3))

    def sleep(seconds: float) -> None:
        look = next(looks)
        if look == 1:  # between two looks something happened
            attempt(storage, first, "running", epochs=3)
            codec.write_json(storage, layout.TrialFiles(second).failure, lost("killed"))
        if look == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    with Lease(storage, "tiny"):
        said = command("watch", path)
    remark, *lines = said.out.splitlines()
    assert (said.code, "has not run here" in remark) == (1, True)
    assert lines == [
        "4 waiting",
        "baseline/general/r01 running",
        "baseline/general/r02 failed: WorkerLost: killed",
        "baseline/portable/r02 blocked",
        "1 blocked, 1 failed, 1 running, 1 waiting (about 10s left)",
    ]


def test_a_terminal_shows_pace_and_time_left_of_running_trials(command: Command, tmp_path: Path) -> None:
    path, storage = write_study(tmp_path, arms={"baseline": {}}), Store.open(tmp_path / "xferlab-results")
    entries = json.loads(command("plan", path, "--json").out)
    codec.write_json(
        storage, layout.StudyFiles("tiny").plan, {k: v for k, v in entries.items() if k != "exit_code"}
    )
    with Lease(storage, "tiny"):
        attempt(storage, entries["trials"][0]["trial_id"], "running", epochs=3)
        options = WatchOptions(study=str(path))
        now = compare(options)
        panel = watch._panel(chosen_states(options, now), now)
    console = Console(width=120, record=True)
    console.print(panel)
    shown = console.export_text().splitlines()
    assert shown[0].startswith("1 running, 3 waiting (about ")
    assert shown[1].split("  ")[0] == "running"
    assert "node7" in shown[2]
    assert "2.0" in shown[2].split()
    assert "about" in shown[2]
