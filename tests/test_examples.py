"""Examples for machines of others: what they would run is run here, as far as this machine allows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests.studies import ONE_TRIAL, environment, write_study, xferlab
from xferlab.study.load import load

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / "examples" / "github-actions.yml"
ACTIONS = ["actions/checkout", "actions/setup-python", "actions/upload-artifact"]


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text())
    return content


@pytest.fixture(scope="module")
def job(workflow: dict[Any, Any]) -> dict[str, Any]:
    (job,) = workflow["jobs"].values()
    found: dict[str, Any] = job
    return found


def test_the_workflow_has_the_structure_that_github_reads(
    workflow: dict[Any, Any], job: dict[str, Any]
) -> None:
    # In YAML 1.1 the key `on` is the value true.
    assert set(workflow) == {"name", True, "permissions", "jobs"}
    assert set(workflow[True]) <= {"push", "pull_request", "workflow_dispatch"}
    assert workflow["permissions"] == {"contents": "read"}
    assert set(job) == {"runs-on", "timeout-minutes", "env", "steps"}
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert [name.partition("@v")[0] for name in used] == ACTIONS
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step)
        assert set(step) <= {"name", "uses", "with", "run", "if"}
    assert job["env"]["PIP_EXTRA_INDEX_URL"] == "${{ vars.TORCH_INDEX }}"
    assert "://" not in WORKFLOW.read_text()
    assert load(ROOT / job["env"]["STUDY"]).base.training.device == "cpu"


def test_shellcheck_finds_nothing_in_its_steps(job: dict[str, Any]) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    script = "\n".join(step["run"] for step in job["steps"] if "run" in step)
    done = subprocess.run(
        [shellcheck, "--shell=bash", "-"], input=script, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def link_commands(folder: Path) -> None:
    """Makes the commands of this environment those of a repository's own."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "xferlab"):
        (folder / ".venv" / "bin" / name).symlink_to(Path(sys.executable).with_name(name))


def suite_of(job: dict[str, Any], folder: Path) -> ElementTree.Element:
    """Returns what the job's step writes as JUnit of `study.yaml` in a folder."""
    (step,) = (step for step in job["steps"] if "JUnit" in step.get("name", ""))
    subprocess.run(
        ["bash", "-e", "-c", step["run"]], cwd=folder, env={**environment(folder), "STUDY": "study.yaml"},
        check=True, timeout=120,
    )  # fmt: skip
    return ElementTree.parse(folder / "reports" / "trials.xml").getroot()


@pytest.mark.slow
def test_trials_are_the_tests_of_a_repository_that_is_no_checkout(
    tmp_path: Path, job: dict[str, Any]
) -> None:
    still = {"stages.general.training": {"max_epochs": 1, "patience": 1}}
    wild = {"stages.general.training": {"lr": 1e30}}
    write_study(tmp_path, **{**ONE_TRIAL, "arms": {"still": still, "wild": wild}}, retries=0)
    link_commands(tmp_path)
    xferlab(tmp_path, "run", "study.yaml", "--storage", "results", "--executor", "in-process", code=1)
    suite = suite_of(job, tmp_path)
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [case.get("name") for case in suite] == ["still/general/r01", "wild/general/r01"]
    ((failure,),) = (list(case) for case in suite if len(case))
    assert failure.get("type") == "NonFiniteLossError"
    assert "the training loss became" in str(failure.get("message"))


@pytest.mark.component
def test_a_wrong_study_is_a_test_that_fails(tmp_path: Path, job: dict[str, Any]) -> None:
    link_commands(tmp_path)
    (tmp_path / "study.yaml").write_text("study: x\nsede: 1\n")
    suite = suite_of(job, tmp_path)
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    assert "study.yaml:2: " in str(suite[0][0].get("message"))


@pytest.mark.slow
def test_its_steps_run_in_a_fresh_clone(tmp_path: Path, job: dict[str, Any]) -> None:
    """With the installed libraries of this environment, and one file of tests in place of all."""
    clone, summary = tmp_path / "clone", tmp_path / "summary.md"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, clone], check=True, timeout=120)
    environment = clone / ".venv"
    environment.mkdir()
    for name in ("bin", "include", "lib", "pyvenv.cfg"):
        (environment / name).symlink_to(Path(sys.prefix) / name)
    (environment / ".installed").touch()  # nothing is to be installed
    own = {
        "STUDY": job["env"]["STUDY"], "GITHUB_STEP_SUMMARY": str(summary), "PYTHONPATH": str(clone),
        "PYTEST_ADDOPTS": "--ignore-glob=tests/*/* -k test_errors", "XFERLAB_CACHE": str(tmp_path / "cache"),
    }  # fmt: skip
    for step in job["steps"]:
        if "run" in step:
            done = subprocess.run(
                ["bash", "-e", "-c", step["run"]], cwd=clone, env={**os.environ, **own}, capture_output=True,
                text=True, timeout=900, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{step['name']}: {done.stdout}{done.stderr}"
    said = summary.read_text()
    assert said.startswith("# ")
    counts = dict(
        line.split(": ", 1) for line in said.splitlines() if line.startswith(("trials.xml", "tests.xml"))
    )
    assert counts["trials.xml"] == "tests=9 failures=0"
    assert "failures=0" in counts["tests.xml"]
    assert (clone / "reports" / "study" / "index.html").is_file()
