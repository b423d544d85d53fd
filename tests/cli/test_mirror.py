"""A run leaves W&B whole: its trials, also those whose mirror died, and the summary of the study."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command
from tests.studies import TINY, write_study
from tests.tracking.wandb_files import offline_runs
from xferlab.tracking import TrialMirror

pytestmark = pytest.mark.component

ONE = {
    "data": {"general": TINY["data"]["general"]},
    "stages": {"general": {"data": "general", "repetitions": 1, "evaluate_on": ["general.test"]}},
    "arms": {"baseline": {}},
    "training": {**TINY["training"], "max_epochs": 3},
    "tracking": {"wandb": {"project": "mine"}},
}


def test_a_killed_mirror_is_completed_by_the_end_of_the_run_and_the_summary_is_there(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = TrialMirror.epoch

    def killed(mirror: Any, result: Any) -> None:
        tell(mirror, result)
        if mirror._writer is not None:
            os.kill(mirror._writer._process.pid, signal.SIGKILL)
            mirror._writer._process.wait()

    monkeypatch.setattr(TrialMirror, "epoch", killed)
    study = write_study(tmp_path, **ONE)
    run = ("run", study, "--executor", "in-process", "--storage", tmp_path / "results")
    said = command(*run)
    assert said.code == 0
    assert "W&B lacks" not in said.err
    runs = {one.run.job_type: one for one in offline_runs(tmp_path / "cache" / "wandb")}
    assert sorted(runs) == ["study", "trial"]
    assert runs["trial"].epochs == [1, 2, 3]
    assert [one.summary["outcome"] for one in runs.values()] == ["complete", "complete"]
    assert not list((tmp_path / "results" / "studies" / "tiny" / "mirror").glob("*"))


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
