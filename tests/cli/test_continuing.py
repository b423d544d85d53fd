"""What `plan`, `run` and `status` say of trainings that continue shorter ones, and of those that do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.studies import ONE_TRIAL, TINY, write_study
from xferlab.cli.continuing import cut_off
from xferlab.cli.options import StudyOptions
from xferlab.cli.session import Session
from xferlab.tasks.segmentation.config import Identity

pytestmark = pytest.mark.component

TWO_STAGES = {
    "general": {"data": "general", "repetitions": 1, "evaluate_on": []},
    "portable": {"data": "portable", "starts_from": "general", "evaluate_on": []},
}


@pytest.fixture
def edit(tmp_path: Path) -> Any:
    """Writes a study of one trial whose training has these bounds."""

    def edit(max_epochs: int, patience: int, **changes: Any) -> Path:
        training = {**TINY["training"], "max_epochs": max_epochs, "patience": patience}
        return write_study(tmp_path, **{**ONE_TRIAL, "training": training, **changes})

    return edit


def trials(command: Command, study: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(command("status", study, "--json").out)["trials"]
    return listed


def run(command: Command, study: Path) -> str:
    said = command("run", study, "--executor", "in-process", code=0)
    return said.out


def test_a_raised_bound_continues_where_the_state_was_kept(command: Command, edit: Any) -> None:
    assert "shorter trainings" not in run(command, edit(2, 2, keep_states=True))
    (short,) = trials(command, edit(2, 2))
    study = edit(3, 3)
    waits = f"waiting; continues trial {short['trial_id']} after epoch 2"
    promise = "a/general: 1 trial will continue shorter trainings after epoch 2"
    planned = command("plan", study).out
    assert waits in planned
    assert promise in planned.splitlines()
    assert waits in command("status", study).out
    (row,) = trials(command, study)
    assert row["state"] == "waiting"
    assert row["continues"] == {"trial_id": short["trial_id"], "epoch": 2}
    said = run(command, study)
    assert promise in said.splitlines()
    assert "a/general/r01 epoch 2," in said  # where it stands when it begins
    (row,) = trials(command, study)
    assert (row["state"], row["epochs"], "continues" in row) == ("complete", 3, False)
    assert "continues" not in command("plan", study).out


@pytest.mark.parametrize(
    ("first", "then", "reason"),
    [
        ((2, 2, {}), (3, 3, {}), "its state was not kept (`keep_states: true` keeps those of trainings from"),
        ((2, 2, {}), (1, 1, {}), "it has 2 epochs, and the state after 1 was not kept"),
        ((2, 2, {"keep_states": True}), (1, 1, {}), "it has 2 epochs, and the state after 1 was not kept"),
        (
            (2, 2, {"stages": TWO_STAGES, "keep_states": True}),
            (3, 3, {"stages": TWO_STAGES}),
            "it starts from another network now",
        ),
    ],
)
def test_a_training_from_scratch_says_why(
    command: Command, edit: Any, first: Any, then: Any, reason: str
) -> None:
    study = edit(*first[:2], **first[2])
    run(command, study)
    before = {row["name"]: row["trial_id"] for row in trials(command, study)}
    study = edit(*then[:2], **then[2])
    name = list(before)[-1]
    why = f"{name} does not continue trial {before[name]}: {reason}"
    assert why in command("plan", study).out
    assert why in run(command, study)
    assert "does not continue" not in command("plan", study).out


def test_a_task_that_computes_more_from_a_bound_is_refused(
    command: Command, edit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Identity, "bounds", ("patience",))
    run(command, edit(2, 1, keep_states=True))
    reason = "task 'segmentation' computes more from training.max_epochs than when to end"
    assert reason in command("plan", edit(3, 1)).out
    assert "1 trial will continue shorter trainings after epoch" in command("plan", edit(2, 2)).out


def test_an_interrupted_or_different_training_is_no_start(command: Command, edit: Any) -> None:
    study = edit(2, 2, keep_states=True)
    run(command, study)
    (record,) = study.parent.glob("xferlab-results/trials/*/record.json")
    record.unlink()
    assert "does not continue trial" in (said := command("plan", edit(3, 3)).out)
    assert ": it is not complete" in said
    assert (
        "does not continue"
        not in command("plan", edit(3, 3, model={"init_features": 3, "image_size": 32})).out
    )


def test_trainings_that_were_cut_off_are_told_while_that_can_be_mended(command: Command, edit: Any) -> None:
    study = edit(2, 2)
    told = "trainings that ended by max_epochs and not by patience: general 1 of 1; a larger "
    assert told in run(command, study)
    assert told in command("plan", study).out
    assert "with keep_states: true" in command("plan", study).out
    kept = edit(2, 2, keep_states=True)
    assert "(trainings whose state was kept continue)" in command("plan", kept).out


def test_a_training_without_a_score_is_not_cut_off(command: Command, edit: Any) -> None:
    options = StudyOptions(study=str(edit(2, 2)), storage="results")
    plan = Session.open(options).plan()
    (trial,) = plan.trials
    assert list(cut_off(plan, {trial.trial_id: ("max_epochs", None)})) == []
    assert len(list(cut_off(plan, {trial.trial_id: ("max_epochs", 0.5)}))) == 1
    assert list(cut_off(plan, {trial.trial_id: ("patience", 0.5)})) == []
