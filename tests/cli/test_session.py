"""What every verb begins with: the study, its storage, and the words that advise its commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies import write_study
from xferlab.cli.options import StudyOptions
from xferlab.cli.session import Session, command_options


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
