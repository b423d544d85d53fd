"""`xferlab prune`, on a study that was run: what it lists, deletes, refuses, and what runs afterwards."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.studies import ONE_TRIAL, TINY, noise, recorded, write_pack, write_study
from xferlab.records.store import Store
from xferlab.schedule.lease import Lease

TWO = {"general": {"data": "general", "evaluate_on": ["general.test"]}}
"""Stages of as many repetitions as the study has."""


def of(command: Command, tmp_path: Path, **changes: object) -> Path:
    """Runs a study of one or two trials."""
    study = write_study(tmp_path, **{**ONE_TRIAL, **changes})
    command("run", study, "--storage", "st", "--executor", "in-process", code=0)
    return study


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def surplus_in(storage: Path) -> Path:
    """A file of a trial that no plan names."""
    path = storage / "trials/0000/spec.json"
    path.parent.mkdir()
    path.write_text("{}")
    return path


@pytest.mark.component
def test_an_arm_that_is_gone_is_listed_then_deleted_and_the_rest_is_complete(
    command: Command, tmp_path: Path
) -> None:
    of(command, tmp_path, arms={"a": {}, "b": {"training.rotation": None}})
    study = of(command, tmp_path)
    storage = tmp_path / "st"
    before, records = files(storage), recorded(storage)
    listed = command("prune", study, "--storage", "st", code=0)
    assert "trials that no plan names" in listed.out
    assert "nothing is deleted without --yes" in listed.out
    assert files(storage) == before
    named = command("prune", "--storage", "st", "--names")
    (gone,) = [line.strip() for line in named.out.splitlines() if line.strip().startswith("trials/")]
    deleted = command("prune", "--storage", "st", "--yes", code=0)
    assert deleted.out.rstrip().endswith("deleted")
    assert files(storage) == {name for name in before if not name.startswith(gone)}
    assert recorded(storage).items() <= records.items()
    assert command("prune", "--storage", "st").out.endswith("nothing to prune\n")
    assert command("run", study, "--storage", "st", "--executor", "in-process").code == 0
    assert files(storage) <= before
    shutil.rmtree(storage / "studies")
    refused = command("prune", "--storage", "st", "--yes", code=2)
    assert "no plan of any study, so nothing tells what is needed" in refused.err


@pytest.mark.component
def test_while_a_driver_lives_nothing_is_deleted(command: Command, tmp_path: Path) -> None:
    study = of(command, tmp_path)
    surplus = surplus_in(tmp_path / "st")
    with Lease(Store.open(tmp_path / "st"), str(TINY["study"])):
        refused = command("prune", study, "--storage", "st", "--yes", code=2)
        assert f"is driven by process {os.getpid()}" in refused.err
        assert surplus.exists()
        assert command("prune", study, "--storage", "st").code == 0
    assert command("prune", study, "--storage", "st", "--yes").code == 0
    assert not surplus.exists()


@pytest.mark.component
def test_a_storage_that_cannot_be_pruned_keeps_no_other_from_it(command: Command, tmp_path: Path) -> None:
    first = of(command, tmp_path)
    second = first.with_name("second.yaml")
    second.write_text(first.read_text() + f"storage: {tmp_path / 'absent'}\n")
    first.write_text(first.read_text() + f"storage: {tmp_path / 'st'}\n")
    surplus = surplus_in(tmp_path / "st")
    said = command("prune", second, first, "--yes", code=1)
    assert f"{tmp_path}/absent: no plan of any study" in said.err
    assert not surplus.exists()
    assert command("prune", second).code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--yes"], "name study files, whose storages are pruned, or one storage by --storage"),
        (["--storage", "nowhere"], "no plan of any study"),
    ],
)
def test_what_is_pruned_must_be_named_and_there(
    command: Command, tmp_path: Path, words: list[str], message: str
) -> None:
    said = command("prune", *words, code=2)
    assert message in said.err
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.component
def test_a_run_of_a_smaller_profile_gives_no_trial_of_the_study_up(command: Command, tmp_path: Path) -> None:
    study = of(command, tmp_path, repetitions=2, stages=TWO, profiles={"quick": {"repetitions": 1}})
    command("run", study, "--storage", "st", "--executor", "in-process", "--profile", "quick", code=0)
    before = files(tmp_path / "st")
    refused = command("prune", study, "--storage", "st", "--yes", code=2)
    assert "the last plan of study 'tiny' is of profile 'quick', not of no profile" in refused.err
    assert f"`xferlab run {study}`" in refused.err
    assert "--profile quick" in refused.err
    assert files(tmp_path / "st") == before
    listed = command("prune", study, "--storage", "st", "--profile", "quick", code=0)
    assert "kept is what these plans name: tiny (profile 'quick', planned 2" in listed.out
    assert "trials that no plan names" in listed.out
    command("run", study, "--storage", "st", "--executor", "in-process", code=0)
    assert command("prune", study, "--storage", "st", "--yes", code=0).out.endswith("nothing to prune\n")


@pytest.mark.component
def test_trials_that_an_edited_file_asks_for_again_stay(command: Command, tmp_path: Path) -> None:
    training = TINY["training"]
    of(command, tmp_path)
    first = recorded(tmp_path / "st")
    of(command, tmp_path, training={**training, "lr": 0.002})
    study = write_study(tmp_path, **ONE_TRIAL)
    pruned = command("prune", study, "--storage", "st", "--yes", code=0)
    assert f"and what these files ask for now: {study}" in pruned.out
    assert first.items() <= recorded(tmp_path / "st").items()
    assert "1 complete already" in command("run", study, "--storage", "st", "--executor", "in-process").out
    assert "trials that no plan names" in command("prune", study, "--storage", "st", "--yes", code=0).out
    assert recorded(tmp_path / "st") == first


@pytest.mark.component
def test_an_edited_file_whose_data_are_elsewhere_decides_nothing(command: Command, tmp_path: Path) -> None:
    write_pack(tmp_path / "pack", ((noise(seed, 32), noise(seed, 32) > 99) for seed in range(10)))
    data = {"general": {"source": "manifest", "root": "pack", "labels": {"lung": [255]}}}
    of(command, tmp_path, data=data)
    surplus = surplus_in(tmp_path / "st")
    study = write_study(tmp_path, **{**ONE_TRIAL, "data": data, "seed": 6})
    (tmp_path / "pack").rename(tmp_path / "moved")
    refused = command("prune", study, "--storage", "st", "--yes", code=2)
    assert "was edited since its last plan, and its data cannot be read here" in refused.err
    assert surplus.exists()
    write_study(tmp_path, **{**ONE_TRIAL, "data": data})
    assert command("prune", study, "--storage", "st", "--yes", code=0).out.endswith("deleted\n")
    assert not surplus.exists()
