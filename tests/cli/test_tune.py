"""`xferlab tune` refuses what cannot be searched before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import Command, Said
from tests.studies import write_study
from tests.study.test_tuned import TUNED, winner
from xferlab.cli import tune as search
from xferlab.cli.main import BAD_INPUT
from xferlab.errors import StorageError, UsageError

pytestmark = pytest.mark.component  # reads a study's phantoms


@pytest.fixture
def tune(tmp_path: Path, command: Command) -> Callable[..., Said]:
    """Asks for a search in the test's folder, which is refused."""
    write_study(tmp_path)
    (tmp_path / "space.yaml").write_text("training.lr: {loguniform: [1.0e-4, 1.0e-2]}\n")
    words = ("tune", "study.yaml", "--space", "space.yaml", "--samples", "2", "--storage", "storage")
    return partial(command, *words, code=BAD_INPUT)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--samples", "0"], "--samples 0: at least one"),
        (["--workers", "0"], "--workers 0: at least one"),
        (["--max-concurrent", "0"], "--max-concurrent 0: at least one"),
        (["--arm", "basline"], "Did you mean 'baseline'"),
        (["--stage", "portabel"], "Did you mean 'portable'"),
        (["--repeats", "3"], "--repeats 3: stage 'portable' has 2 repetitions"),
        (["--space", "spaec.yaml"], "there is no such file"),
    ],
)
def test_what_does_not_exist_is_refused(tune: Callable[..., Said], more: list[str], words: str) -> None:
    assert words in tune(*more).err


def test_a_stage_without_its_parents_names_them_and_what_to_run(
    tune: Callable[..., Said], tmp_path: Path
) -> None:
    told = tune().err
    assert "2 of 2 are not complete" in told
    assert "baseline/general/r01 (" in told
    assert "xferlab run study.yaml --storage storage --arms baseline" in told
    assert not (tmp_path / "storage/tuning").exists()


def test_a_file_that_somebody_wrote_is_not_replaced(tune: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("arm: {training.lr: 0.1}\n")
    said = tune("--stage", "general", "--out", "mine.yaml")
    assert "`xferlab tune` has not written it" in said.err
    assert (tmp_path / "mine.yaml").read_text() == "arm: {training.lr: 0.1}\n"


def test_a_file_of_another_search_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def out(arm: str, tuning_id: str, profile: str | None = None, given: str | None = None) -> Path:
        loaded = SimpleNamespace(base=SimpleNamespace(study="s"), profile=profile)
        tuning: Any = SimpleNamespace(
            tuning_id=tuning_id, wanted=SimpleNamespace(arm=arm, stage=TUNED["stage"])
        )
        session: Any = SimpleNamespace(loaded=loaded)
        options: Any = SimpleNamespace(out=given)
        return search._out(session, tuning, options)

    own = TUNED["tuning_id"]
    names = [out("baseline", own), out("still", own), out("baseline", own, "quick")]
    assert [path.name for path in names] == ["s-general.yaml", "s-still-general.yaml", "s-general-quick.yaml"]
    names[0].parent.mkdir(parents=True)
    names[0].write_text(winner())
    assert out("baseline", own) == names[0]  # the same command continues, or adds samples
    for given in (None, str(names[0])):
        with pytest.raises(UsageError, match=rf"{own}: stage general of arm baseline .*would change"):
            out("baseline", "f" * 16, given=given)
    names[0].write_text(winner() + "more: {}")
    with pytest.raises(UsageError, match="was edited by hand; give another file"):
        out("baseline", own)


def test_what_cannot_be_written_after_a_search_is_told(tmp_path: Path, capsys: Any) -> None:
    base = SimpleNamespace(study="mine")
    session: Any = SimpleNamespace(
        loaded=SimpleNamespace(base=base, profile=None), store=SimpleNamespace(location=str(tmp_path))
    )
    tuning: Any = SimpleNamespace(tuning_id="0" * 16, wanted=SimpleNamespace(arm="a", stage="general"))
    assert not search._report(session, tuning, str(tmp_path / "report"))
    assert f"no search '{'0' * 16}'" in capsys.readouterr().err
    (tmp_path / "file").write_text("in the way")
    text = r"the winner cannot be written to .*/file/tuned\.yaml: .*File exists.*; the same "
    with pytest.raises(StorageError, match=text):
        search._write(tmp_path / "file" / "tuned.yaml", "arm")
