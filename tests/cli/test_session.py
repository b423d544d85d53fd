"""Where the storage of a study lies, whatever folder the command runs in."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from xferlab.cli.session import command_options, open_storage
from xferlab.errors import UsageError
from xferlab.study.load import LoadedStudy, load

STUDY = """
study: mine
storage: {storage}
data: {{a: {{source: phantom_mri, count: 3}}}}
stages: {{one: {{data: a}}}}
"""


def study(folder: Path, storage: str = "./results") -> LoadedStudy:
    folder.mkdir(exist_ok=True)
    path = folder / "mine.yaml"
    path.write_text(STUDY.format(storage=storage))
    return load(path)


def record(storage: Path) -> None:
    (storage / "studies/mine").mkdir(parents=True)
    (storage / "studies/mine/plan.json").write_text("{}")


def test_every_folder_sees_the_same_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = study(tmp_path / "jobs")
    for folder in (tmp_path, tmp_path / "jobs", Path("/")):
        monkeypatch.chdir(folder)
        assert open_storage(loaded, None).location == str(tmp_path / "jobs/results")


def test_a_storage_on_the_command_line_starts_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = study(tmp_path / "jobs")
    record(tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    assert open_storage(loaded, "results").location == str(tmp_path / "results")


def test_records_where_the_command_runs_are_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = study(tmp_path / "jobs")
    record(tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as refused:
        open_storage(loaded, None)
    assert str(refused.value) == (
        f"{tmp_path}/jobs/mine.yaml: the storage ./results starts at the study file: "
        f"{tmp_path}/jobs/results. Records of study 'mine' also lie where this command runs, in "
        f"{tmp_path}/results, since earlier versions put them there, and the storage holds none. To go on "
        "with them, write `storage: ../results` in the study file, move that folder, or give --storage "
        f"{tmp_path}/results. To start afresh, give --storage {tmp_path}/jobs/results"
    )
    # Each remedy works.
    assert open_storage(study(tmp_path / "jobs", "../results"), None).location == str(tmp_path / "results")
    (tmp_path / "results").rename(tmp_path / "jobs/results")
    assert open_storage(loaded, None).location == str(tmp_path / "jobs/results")


def test_records_at_both_places_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = study(tmp_path / "jobs")
    record(tmp_path / "results")
    record(tmp_path / "jobs/results")
    monkeypatch.chdir(tmp_path)
    assert open_storage(loaded, None).location == str(tmp_path / "jobs/results")
    assert capsys.readouterr().err.endswith("since earlier versions put them there; they are not used.\n")


def test_an_absolute_storage_and_a_uri_mean_one_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    for storage in ("/nowhere/results", "s3://bucket/results?region=us-east-1"):
        assert open_storage(study(tmp_path / "jobs", storage), None).location == storage
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("it's here", """--storage 'it'"'"'s here'"""),
        ("s3://bucket/here?secret_key=K", "--storage 's3://bucket/here?...'"),
        ("results", "--storage results"),
    ],
)
def test_an_advised_command_can_be_pasted(given: str, shown: str) -> None:
    options = Namespace(study="my study.yaml", profile="p q", storage=given)
    assert command_options(options) == f"'my study.yaml' --profile 'p q' {shown}"
