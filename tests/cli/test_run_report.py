"""`run --report`: a run that ends with its report."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.studies import ONE_TRIAL, TINY, environment, write_study
from tests.tracking.wandb_files import offline_runs

pytestmark = pytest.mark.component

ARMS = {"baseline": {}, "wild": {"stages.general.training": {"lr": 1e30}}}
IN_PROCESS = ("--executor", "in-process")


def test_a_run_writes_the_report_that_the_verb_writes(command: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path, **ONE_TRIAL, tracking={"wandb": {"project": "mine", "mode": "offline"}})
    said = command("run", study, *IN_PROCESS, "--report", tmp_path / "one", code=0)
    page = tmp_path / "one" / "index.html"
    assert said.out.endswith(f"{page}: the same as one page for a browser\n")
    assert "all 1 trials complete\n" in said.out
    command("report", study, "--out", tmp_path / "other", code=0)
    files = {path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert len(files) > 5
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name
    (of_study,) = (run for run in offline_runs(tmp_path / "cache/wandb") if run.run.job_type == "study")
    assert of_study.summary["trials_complete"] == 1


def test_a_run_with_failed_trials_writes_a_report_that_says_so(command: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path, **{**ONE_TRIAL, "arms": ARMS}, retries=0)
    said = command("run", study, *IN_PROCESS, "--report", "report", "--json", code=1)
    told = json.loads(said.out)
    assert told["counts"] == {"complete": 1, "failed": 1}
    assert (told["report"], told["lacking"]) == (str(tmp_path / "report" / "report.md"), [])
    assert "Incomplete: 1 of 2 planned trials" in (tmp_path / "report" / "report.md").read_text()


def test_a_file_in_its_place_is_refused_before_anything_runs(command: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path, **ONE_TRIAL)
    (tmp_path / "report").write_text("mine")
    said = command("run", study, *IN_PROCESS, "--report", "report", code=2)
    assert "--report report: this is a file; give a folder" in said.err
    assert not (tmp_path / "xferlab-results").exists()


def test_a_folder_that_cannot_be_made_costs_the_report_alone(command: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path, **ONE_TRIAL)
    (tmp_path / "file").write_text("mine")
    said = command("run", study, *IN_PROCESS, "--report", "file/report", code=1)
    assert "all 1 trials complete" in said.out
    assert "the report cannot be written" in said.err
    assert f"`xferlab report {study}` writes the report later" in said.err
    command("report", study, "--out", "report", code=0)


@pytest.mark.slow
def test_ctrl_c_ends_the_writing_of_the_report_at_once(command: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path, **{**TINY, "arms": {"baseline": {}}})
    words = [sys.executable, "-um", "xferlab", "run", study, *IN_PROCESS, "--report", "report"]
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any("trials complete" in line and line.startswith("all ") for line in lines)
        process.send_signal(signal.SIGINT)
        left = process.stdout.read()
        assert process.wait(60) == 128 + signal.SIGINT
    assert "report.md" not in left
    said = command("run", study, *IN_PROCESS, "--report", "report", code=0)
    assert "running" not in said.out
    assert (tmp_path / "report" / "index.html").is_file()
