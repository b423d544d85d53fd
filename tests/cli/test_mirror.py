"""A run leaves W&B whole: its trials, also those whose mirror died, and the summary of the study."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.studies import TINY, write_study

pytestmark = pytest.mark.component

ONE = {
    "data": {"general": TINY["data"]["general"]},
    "stages": {"general": {"data": "general", "repetitions": 1, "evaluate_on": ["general.test"]}},
    "arms": {"baseline": {}},
    "training": {**TINY["training"], "max_epochs": 3},
    "tracking": {"wandb": {"project": "mine"}},
}


def test_a_run_whose_mirror_cannot_be_written_is_complete_and_says_so_once(
    command: Command, tmp_path: Path
) -> None:
    study = write_study(tmp_path, **ONE)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "wandb").write_text("a file where a folder should be")
    said = command("run", study, "--executor", "in-process", "--storage", tmp_path / "results")
    assert said.code == 0
    (line,) = (line for line in said.err.splitlines() if line.startswith("warning: W&B lacks"))
    assert "something of 1 trials" in line
    assert line.endswith(f"`xferlab mirror {study} --storage {tmp_path / 'results'}` completes it")
