"""What every verb begins with: the study, its storage, and the words that advise its commands."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Command
from tests.studies import ONE_TRIAL, TINY, write_study
from xferlab.cli import cancel
from xferlab.cli.options import StudyOptions
from xferlab.cli.session import Session, command_options
from xferlab.schedule.lease import Lease
from xferlab.schedule.study import publish
from xferlab.study.yaml_lines import Document, read


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("it's here", """--storage 'it'"'"'s here'"""),
        ("s3://bucket/here?secret_key=K", "--storage 's3://bucket/here?...'"),
        ("results", "--storage results"),
    ],
)
def test_an_advised_command_can_be_pasted(given: str, shown: str) -> None:
    options = StudyOptions(study="my study.yaml", profile="p q", storage=given)
    assert command_options(options) == f"'my study.yaml' --profile 'p q' {shown}"


def test_a_storage_is_relative_to_the_study_file_and_an_option_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs").mkdir()
    study = write_study(tmp_path / "jobs", storage="./results")
    for folder in (tmp_path, tmp_path / "jobs", Path("/")):
        monkeypatch.chdir(folder)
        assert Session.open(StudyOptions(study=str(study))).store.location == str(tmp_path / "jobs/results")
    monkeypatch.chdir(tmp_path)
    session = Session.open(StudyOptions(study=str(study), storage="results"))
    assert session.store.location == str(tmp_path / "results")


@pytest.mark.component
def test_every_verb_reads_the_study_once(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(tmp_path, **ONE_TRIAL)
    Image.fromarray(np.eye(40, dtype=np.uint8) * 255).save(tmp_path / "image.png")
    files: list[Path] = []

    def counted(path: Path, *, name: str | None = None) -> Document:
        files.append(path)
        return read(path, name=name)

    monkeypatch.setattr(sys.modules["xferlab.study.load"], "read", counted)
    for verb, *words in (
        ("check", study), ("plan", study), ("run", study, "--executor", "in-process"), ("status", study),
        ("failures", study), ("report", study), ("prune", study),
        ("predict", "a/general/r01", "image.png", "--study", study, "--out", "out"),
    ):  # fmt: skip
        files.clear()
        command(verb, *words, code=0)
        assert files == [study], verb


@pytest.mark.parametrize("verb", ["plan", "status", "run"])
def test_a_file_is_no_storage(command: Command, tmp_path: Path, verb: str) -> None:
    study = write_study(tmp_path, storage="./file")
    (tmp_path / "file").write_text("")
    said = command(verb, study, code=2)
    assert f"storage {tmp_path / 'file'} is a file; give a folder with --storage" in said.err


def test_names_mean_trials_of_the_profile_that_ran_last(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(tmp_path, **ONE_TRIAL, profiles={"quick": {"training.lr": 0.5}}, storage="st")
    quick = Session.open(StudyOptions(study=str(study), profile="quick"))
    publish(quick.plan(), quick.store)
    name, trial_id = next(iter(quick.plan().names.items()))
    verbs = [
        ("predict", name, "x.png", "--out", "o", "--study", study),
        ("predict", name.rpartition("/")[0], "x.png", "--out", "o", "--study", study),
        ("export", name, "--format", "onnx", "--out", "o", "--study", study),
        ("logs", name, "--study", study),
        ("archive", study, "--out", "o.zip"),
    ]
    for words in verbs:
        said = command(*words, code=2).err
        assert "study tiny last ran with profile 'quick' in" in said, words
        assert "not with no profile. Give --profile quick to take the trials of that run" in said
        assert f"`xferlab run {study}` trains no complete trial again" in said
    command("logs", name, "--study", study, "--profile", "quick", code=0)
    command("logs", trial_id, "--study", study, code=0)  # an id is unambiguous
    monkeypatch.setattr(cancel, "ANSWER_WITHIN_S", 0.0)
    with Lease(quick.store, quick.study):
        command("cancel", study, trial_id, code=1)  # asked, and nobody answers
        assert "last ran with profile" in command("cancel", study, name, code=2).err
    publish(Session.open(StudyOptions(study=str(study))).plan(), quick.store)
    for words in verbs:
        said = command(*words, "--profile", "quick", code=2).err
        assert "last ran with no profile in" in said, words
        assert "Leave --profile out" in said


@pytest.mark.parametrize("verb", [["predict", "x.png"], ["export", "--format", "onnx"]])
def test_a_network_of_a_study_file_that_was_edited_is_said_to_be_of_the_last_plan(
    command: Command, tmp_path: Path, verb: list[str]
) -> None:
    study = write_study(tmp_path, **ONE_TRIAL, storage="st")
    session = Session.open(StudyOptions(study=str(study)))
    publish(session.plan(), session.store)
    name, trial_id = next(iter(session.plan().names.items()))
    words = [verb[0], name, *verb[1:], "--out", "o", "--study", study]
    assert "differs from the last plan" not in command(*words, code=2).err
    study.write_text(f"{study.read_text()}# another remark\n")
    assert "differs from the last plan" not in command(*words, code=2).err
    write_study(tmp_path, **{**ONE_TRIAL, "seed": 7}, storage="st")
    assert "study.yaml differs from the last plan of the study: " in command(*words, code=2).err
    few = {**TINY["data"], "general": {**TINY["data"]["general"], "count": 2}}
    write_study(tmp_path, **ONE_TRIAL, data=few, storage="st")
    said = command(*words, code=2).err
    assert "warning: study.yaml was edited since the study ran, and cannot be planned now: " in said
    assert "is not complete (0 epochs so far)" in said  # it is found all the same
    assert "was edited" not in command(words[0], trial_id, *words[2:], code=2).err
