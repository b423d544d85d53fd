"""What `plan` says that the trials that are left will take, and what that rests on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.studies import TINY, write_study
from xferlab.cli import estimate as estimates
from xferlab.cli.options import StudyOptions
from xferlab.cli.session import Session
from xferlab.errors import StudyError
from xferlab.plan.document import to_document
from xferlab.plan.estimate import Pace, estimate, kinds
from xferlab.plan.plan import Plan

PRICES = {
    "currency": "CHF", "per_gpu_hour": 2.0, "per_cpu_hour": 0.5, "per_kwh": 0.25, "watts_per_gpu": 400,
    "watts_per_cpu": 20,
}  # fmt: skip


def planned(folder: Path, **changes: Any) -> Plan:
    return Session.open(StudyOptions(study=str(write_study(folder, **changes)))).plan()


def told(command: Command, *words: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(command("plan", *words, "--json", code=0).out)["estimate"]
    return found


def test_amounts_follow_from_the_paces(tmp_path: Path) -> None:
    resources = {"cpu": 4, "gpu": 0.5}
    training = {**TINY["training"], "device": "cuda"}
    plan = planned(tmp_path, prices=PRICES, resources=resources, training=training, arms={"baseline": {}})
    (kind,) = set(kinds(plan.trials).values())
    pace = Pace("records", 100.0, 0.0, 3.0, 2**29, trials=5, devices=("G",), epochs={(4, 4): 3.0})
    found = estimate(plan, plan.trials, {kind: pace}, done={plan.trials[0].trial_id: 1})
    images = [plan.part_sizes[trial.selection]["train"] for trial in plan.trials]
    hours = [100.0 * number * 3 / 3600 for number in images]
    hours[0] *= 2 / 3  # one epoch is done
    names = {trial.trial_id: hours[place] for place, trial in enumerate(plan.trials)}
    lines = [names[t.trial_id] + names[t.parents[0]] for t in plan.trials if t.parents]
    assert found.hours == pytest.approx(sum(hours))
    assert found.longest_hours == pytest.approx(max(lines))
    assert found.gpu_hours == pytest.approx(0.5 * sum(hours))
    assert found.core_hours == pytest.approx(4 * sum(hours))
    assert (found.gpu_memory_gib, found.memory_gib, found.storage_gib) == (3.0, None, 2.0)
    energy_kwh = (0.5 * 400 + 4 * 20) * sum(hours) / 1000
    assert found.energy_kwh == pytest.approx(energy_kwh)
    assert found.cost == pytest.approx((0.5 * 2 + 4 * 0.5) * sum(hours) + 0.25 * energy_kwh)
    assert found.currency == "CHF"
    # Bounds that no like trial had: all epochs count, and validation where it was measured by itself.
    other = Pace("measured", 1.0, 10.0, 1.0, 0)
    trial = plan.trials[0]
    found = estimate(plan, [trial], {kind: other}, done={})
    cases = sum(len(plan.selections[evaluation.selection].rows) for evaluation in trial.evaluations)
    sizes = plan.part_sizes[trial.selection]
    assert found.hours * 3600 == pytest.approx(4 * (sizes["train"] + 10 * sizes["validation"]) + 10 * cases)
    assert found.rests_on[0].all_epochs == 1
    assert estimate(plan, [trial], {}, done={}).rests_on[0].basis == "unknown"


def test_what_has_no_price_costs_nothing_known(tmp_path: Path) -> None:
    """A price of GPUs, or of their energy, says nothing of trials that use none."""
    for prices in ({"per_gpu_hour": 2.0}, {"per_kwh": 0.3, "watts_per_gpu": 400}):
        plan = planned(tmp_path, prices=prices, arms={"baseline": {}})
        (kind,) = set(kinds(plan.trials).values())
        pace = Pace("records", 100.0, 0.0, 3.0, 2**29, trials=5, devices=("C",), epochs={(4, 4): 3.0})
        found = estimate(plan, plan.trials, {kind: pace}, done={})
        assert (found.cost, found.energy_kwh) == (None, None)
        (line, *_) = estimates.described(found, tried=False)
        assert line.endswith("no cost, since `prices` has none for CPU cores, and no GPU is used")
    with pytest.raises(
        StudyError, match="prices: per_kwh needs the power: give watts_per_gpu, watts_per_cpu"
    ):
        planned(tmp_path, prices={"per_kwh": 0.3})


def test_prices_change_no_plan(tmp_path: Path) -> None:
    with_prices, without = planned(tmp_path, prices=PRICES), planned(tmp_path)
    assert to_document(with_prices) == to_document(without)


@pytest.mark.component
def test_it_rests_on_complete_trials_of_the_storage(command: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path, prices=PRICES)
    assert "unknown, not in these numbers (stages general, portable)" in command("plan", study).out
    command("run", study, "--executor", "in-process", "--arms", "baseline", code=0)
    found = told(command, study)
    (basis,) = found["rests_on"]
    assert (basis["basis"], basis["trials"], basis["like"], basis["all_epochs"]) == ("records", 2, 4, 0)
    storage = tmp_path / "xferlab-results"
    spent = images = 0.0
    for path in storage.glob("trials/*/run.json"):
        record = json.loads((path.parent / "record.json").read_text())
        spent += json.loads(path.read_text())["total_s"]
        images += record["num_train"] * record["num_epochs"]
    left = [
        trial for trial in json.loads(command("plan", study, "--json").out)["trials"] if not trial["complete"]
    ]
    assert found["hours"] * 3600 == pytest.approx(sum(t["num_train"] * 4 for t in left) * spent / images)
    assert found["cost"] > 0
    # Another study in this storage, with other bounds: the pace is known, the number of epochs is not.
    training = {**TINY["training"], "max_epochs": 40}
    other = told(command, write_study(tmp_path, study="other", training=training))
    assert other["rests_on"][0]["all_epochs"] == other["rests_on"][0]["trials"] == 6
    assert (other["energy_kwh"], other["cost"], other["currency"]) == (None, None, None)
    network = {"init_features": 4, "image_size": 32}
    assert (
        told(command, write_study(tmp_path, study="other", model=network))["rests_on"][0]["basis"]
        == "unknown"
    )


@pytest.mark.component
def test_a_measured_minute_stores_nothing(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "MEASURED_S", 0.2)
    study = write_study(tmp_path)
    found = told(command, study, "--measure")
    assert [(basis["basis"], basis["trials"]) for basis in found["rests_on"]] == [("measured", 6)]
    assert found["hours"] > found["longest_hours"] > 0
    assert found["memory_gib"] > 0.05
    assert found["storage_gib"] > 0
    assert not list((tmp_path / "xferlab-results").rglob("*"))
    said = command("plan", study, "--measure", code=0)
    assert "from a measured minute, all with all epochs that are allowed" in said.out
    # Where no step can be taken, it says so, and estimates nothing.
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    cuda = {**TINY["training"], "device": "cuda"}
    said = command("plan", write_study(tmp_path, training=cuda), "--measure", code=0)
    assert "baseline/general/r01 cannot be measured: training.device is cuda" in said.err
    assert "estimate:" not in said.out
