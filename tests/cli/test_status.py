"""Where trials stand: told from records and leases, on real files."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.schedule.graphs import trial
from tests.studies import write_study
from xferlab.cli.status import STATES, described, states
from xferlab.plan.spec import PLAN_VERSION, TrialSpec
from xferlab.records import codec, layout, writer
from xferlab.records.schema import EpochResult
from xferlab.records.store import Store
from xferlab.schedule import lease
from xferlab.schedule.lease import Lease
from xferlab.trial.failure import described as failure_of
from xferlab.trial.failure import now

DAY_S = 86_400


def attempt(local: Store, name: str, outcome: str, *, epochs: int = 0, started: str = "") -> None:
    tries = [{"started": started or now(), "host": "node7", "pid": 1, "outcome": outcome}]
    writer.write_run(local, name, {"version": 1, "attempts": tries})
    results = [
        EpochResult(epoch, {"train_loss": 1.0}, 1.0 / epoch, True, 1.0, 1.0) for epoch in range(1, epochs + 1)
    ]
    writer.HistoryFile(local, name, results)


def only(local: Store, *trials: TrialSpec) -> dict[str, Any]:
    *_, row = states(local, "mine", trials)
    return row


def test_a_trial_that_is_not_begun_waits(local: Store) -> None:
    row = only(local, trial("g"))
    assert (row["state"], row["epochs"], row["max_epochs"], described(row)) == ("waiting", 0, 20, "waiting")


def test_a_running_trial_says_where_and_since_when(local: Store) -> None:
    with Lease(local, "mine"):
        attempt(local, "g", "running", epochs=3)
        row = only(local, trial("g"))
    assert (row["state"], row["epochs"], row["host"], row["best_score"]) == ("running", 3, "node7", 1 / 3)
    assert described(row) == f"running on node7 since {row['since']}"


@pytest.mark.parametrize(
    ("plan", "state"),
    [
        ({"trials": [{"trial_id": "g"}]}, "running"),
        ({"trials": [{"trial_id": "h"}]}, "stale"),
        (None, "stale"),
        ("damaged", "stale"),
    ],
)
def test_a_live_study_runs_the_trials_of_its_plan(local: Store, plan: Any, state: str) -> None:
    if plan is not None:
        content = (
            b"{"
            if plan == "damaged"
            else codec.json_bytes({"version": PLAN_VERSION, "study": "other", **plan})
        )
        local.write(layout.StudyFiles("other").plan, content)
    with Lease(local, "other"):
        attempt(local, "g", "running")
        assert only(local, trial("g"))["state"] == state


def test_a_trial_that_nobody_drives_is_stale(local: Store) -> None:
    attempt(local, "g", "running", started="2026-01-01T00:00:00+00:00")
    row = only(local, trial("g"))
    assert described(row) == (
        "stale: begun on node7 at 2026-01-01T00:00:00+00:00, and no process works on it"
    )
    with Lease(local, "mine"):  # a later driver, which has not come to this trial yet
        assert only(local, trial("g"))["state"] == "stale"


@pytest.mark.parametrize("outcome", ["interrupted", "killed"])
def test_an_interrupted_trial_says_how_far_it_came(local: Store, outcome: str) -> None:
    attempt(local, "g", outcome, epochs=7)
    assert described(only(local, trial("g"))) == "interrupted at epoch 7 of 20"


def test_a_failed_trial_blocks_its_descendants_and_keeps_its_reason(local: Store) -> None:
    attempt(local, "g", "failed")
    codec.write_json(local, layout.TrialFiles("g").failure, failure_of(ValueError("no"), epoch=2))
    rows = states(local, "mine", [trial("g"), trial("p", parents=["g"]), trial("q", parents=["p"])])
    assert [row["state"] for row in rows] == ["failed", "blocked", "blocked"]
    assert (rows[0]["failure"]["message"], rows[0]["attempts"]) == ("no", 1)
    assert all(row["state"] in STATES for row in rows)


@pytest.mark.parametrize(
    ("driver_s", "storage_s"),
    [(0, 0), (0, -DAY_S), (-DAY_S, 0), (0, DAY_S), (DAY_S, 0)],
    ids=["", "storage's clock late", "driver's clock late", "storage's ahead", "driver's ahead"],
)
def test_a_lease_of_another_machine_is_judged_by_when_it_was_written(
    local: Store, monkeypatch: pytest.MonkeyPatch, driver_s: int, storage_s: int
) -> None:
    with Lease(local, "mine") as held:
        attempt(local, "g", "running")
        clock, path = lease.time.time(), layout.StudyFiles("mine").lease
        local.write(path, replace(held._holder, at=clock + driver_s).to_bytes())
        os.utime(local.path(path), (clock + storage_s, clock + storage_s))
        monkeypatch.setattr(lease, "_machine", lambda: "elsewhere")
        assert only(local, trial("g"))["state"] == "running"
        later = lease.time.time() + 2 * held._holder.expires_after_s + 1
        monkeypatch.setattr(lease.time, "time", lambda: later)
        assert only(local, trial("g"))["state"] == "stale"


def test_a_study_that_has_not_run_says_so_before_its_data_that_are_elsewhere(
    command: Command, tmp_path: Path
) -> None:
    data = {"mine": {"source": "manifest", "root": "/nowhere"}}
    study = write_study(tmp_path, data=data, stages={"s": {"data": "mine"}}, arms={"baseline": {}})
    said = command("status", study, "--storage", tmp_path / "st", code=2)
    first, second, *_ = said.err.splitlines()
    assert "holds no plan of study tiny: it has not run here. Run it first: xferlab run" in first
    assert "data.mine.root: /nowhere: " in second
