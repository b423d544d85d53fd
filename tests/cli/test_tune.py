"""`xferlab tune` refuses what cannot be searched before anything runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.studies import write_study
from xferlab.cli import tune as search
from xferlab.cli.main import BAD_INPUT, main
from xferlab.errors import StorageError

pytestmark = pytest.mark.component  # reads a study's phantoms


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XFERLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path)
    (tmp_path / "space.yaml").write_text("training.lr: {loguniform: [1.0e-4, 1.0e-2]}\n")
    return tmp_path


def tune(*more: str) -> int:
    words = ["tune", "study.yaml", "--space", "space.yaml", "--samples", "2", "--storage", "storage"]
    return main([*words, *more])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--samples", "0"], "--samples 0: at least one"),
        (["--workers", "0"], "--workers 0: at least one"),
        (["--arm", "basline"], "Did you mean 'baseline'"),
        (["--stage", "portabel"], "Did you mean 'portable'"),
        (["--repeats", "3"], "--repeats 3: stage 'portable' has 2 repetitions"),
        (["--space", "spaec.yaml"], "there is no such file"),
    ],
)
def test_what_does_not_exist_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    assert tune(*more) == BAD_INPUT
    assert words in capsys.readouterr().err


def test_a_stage_without_its_parents_names_them_and_what_to_run(folder: Path, capsys: Any) -> None:
    assert tune() == BAD_INPUT
    told = capsys.readouterr().err
    assert "2 of 2 are not complete" in told
    assert "baseline/general/r01 (" in told
    assert "xferlab run study.yaml --storage storage --arms baseline" in told
    assert not (folder / "storage/tuning").exists()


def test_a_file_that_somebody_wrote_is_not_replaced(folder: Path, capsys: Any) -> None:
    (folder / "mine.yaml").write_text("arm: {training.lr: 0.1}\n")
    assert tune("--stage", "general", "--out", "mine.yaml") == BAD_INPUT
    assert "`xferlab tune` has not written it" in capsys.readouterr().err
    assert (folder / "mine.yaml").read_text() == "arm: {training.lr: 0.1}\n"


def test_what_cannot_be_written_after_a_search_is_told(tmp_path: Path, capsys: Any) -> None:
    base = SimpleNamespace(study="mine")
    session: Any = SimpleNamespace(
        loaded=SimpleNamespace(base=base), store=SimpleNamespace(location=str(tmp_path))
    )
    tuning: Any = SimpleNamespace(tuning_id="0" * 16, wanted=SimpleNamespace(stage="general"))
    assert not search._report(session, tuning, str(tmp_path / "report"))
    assert f"no search '{'0' * 16}'" in capsys.readouterr().err
    (tmp_path / "file").write_text("in the way")
    text = r"the winner cannot be written to .*/file/tuned\.yaml: .*File exists.*; the same "
    with pytest.raises(StorageError, match=text):
        search._write(tmp_path / "file" / "tuned.yaml", "arm")
