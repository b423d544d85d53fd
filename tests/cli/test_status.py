"""Where trials stand: told from records and leases, on real files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.schedule.graphs import trial
from xferlab.cli.status import STATES, described, states
from xferlab.plan.spec import PLAN_VERSION, TrialSpec
from xferlab.records import codec, layout, writer
from xferlab.records.schema import EpochResult
from xferlab.records.store import Store
from xferlab.schedule import lease
from xferlab.schedule.lease import Lease
from xferlab.trial.failure import described as failure_of
from xferlab.trial.failure import now


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


def attempt(store: Store, name: str, outcome: str, *, epochs: int = 0, started: str = "") -> None:
    tries = [{"started": started or now(), "host": "node7", "pid": 1, "outcome": outcome}]
    writer.write_run(store, name, {"version": 1, "attempts": tries})
    results = [
        EpochResult(epoch, {"train_loss": 1.0}, 1.0 / epoch, True, 1.0, 1.0) for epoch in range(1, epochs + 1)
    ]
    writer.HistoryFile(store, name, results)


def only(store: Store, *trials: TrialSpec) -> dict[str, Any]:
    *_, row = states(store, "mine", trials)
    return row


def test_a_trial_that_is_not_begun_waits(store: Store) -> None:
    row = only(store, trial("g"))
    assert (row["state"], row["epochs"], row["max_epochs"], described(row)) == ("waiting", 0, 20, "waiting")


def test_a_running_trial_says_where_and_since_when(store: Store) -> None:
    with Lease(store, "mine"):
        attempt(store, "g", "running", epochs=3)
        row = only(store, trial("g"))
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
def test_a_live_study_runs_the_trials_of_its_plan(store: Store, plan: Any, state: str) -> None:
    if plan is not None:
        content = (
            b"{"
            if plan == "damaged"
            else codec.json_bytes({"version": PLAN_VERSION, "study": "other", **plan})
        )
        store.write(layout.StudyFiles("other").plan, content)
    with Lease(store, "other"):
        attempt(store, "g", "running")
        assert only(store, trial("g"))["state"] == state


def test_a_trial_that_nobody_drives_is_stale(store: Store) -> None:
    attempt(store, "g", "running", started="2026-01-01T00:00:00+00:00")
    row = only(store, trial("g"))
    assert described(row) == (
        "stale: begun on node7 at 2026-01-01T00:00:00+00:00, and no process works on it"
    )
    with Lease(store, "mine"):  # a later driver, which has not come to this trial yet
        assert only(store, trial("g"))["state"] == "stale"


@pytest.mark.parametrize("outcome", ["interrupted", "killed"])
def test_an_interrupted_trial_says_how_far_it_came(store: Store, outcome: str) -> None:
    attempt(store, "g", outcome, epochs=7)
    assert described(only(store, trial("g"))) == "interrupted at epoch 7 of 20"


def test_a_failed_trial_blocks_its_descendants_and_keeps_its_reason(store: Store) -> None:
    attempt(store, "g", "failed")
    codec.write_json(store, layout.TrialFiles("g").failure, failure_of(ValueError("no"), epoch=2))
    rows = states(store, "mine", [trial("g"), trial("p", parents=["g"]), trial("q", parents=["p"])])
    assert [row["state"] for row in rows] == ["failed", "blocked", "blocked"]
    assert (rows[0]["failure"]["message"], rows[0]["attempts"]) == ("no", 1)
    assert all(row["state"] in STATES for row in rows)


def test_a_lease_of_another_machine_is_judged_by_when_it_was_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lease(store, "mine") as held:
        attempt(store, "g", "running")
        monkeypatch.setattr(lease, "_machine", lambda: "elsewhere")
        assert only(store, trial("g"))["state"] == "running"
        later = lease.time.time() + 2 * held._holder.expires_after_s + 1
        monkeypatch.setattr(lease.time, "time", lambda: later)
        assert only(store, trial("g"))["state"] == "stale"
