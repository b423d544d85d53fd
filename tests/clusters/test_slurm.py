"""The batch script for SLURM, run for real on one node: stubs of `srun` and `scontrol` beside a real Ray."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.studies import TINY, attempts, environment, recorded, write_study, xferlab

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "jobs" / "slurm.sbatch"
WITHIN_S = 240.0
STUBS = {
    "srun": 'while [[ $1 == --* ]]; do shift; done\nexec "$@"',
    "scontrol": 'if [[ $1 == show ]]; then echo 127.0.0.1; else echo "$@" >>"$NOTES"; fi',
}
OWN_PROCESSES = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--")
"""Its Ray sees no other Ray on this machine, and stops none."""
LONG = {
    "training": {**TINY["training"], "max_epochs": 60, "patience": 60, "checkpoint_every_s": 60},
    "stages": {"general": {"data": "general", "repetitions": 2, "evaluate_on": ["general.test"]}},
    "arms": {"a": {}},
}


def test_shellcheck_finds_nothing() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    found = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_it_asks_for_a_notice_to_the_script_and_for_its_place_in_the_queue() -> None:
    asked = re.findall(r"^#SBATCH (.*)$", SCRIPT.read_text(), re.MULTILINE)
    assert {"--requeue", "--open-mode=append", "--exclusive", "--signal=B:USR1@120"} <= set(asked)


def can_unshare() -> bool:
    return (
        os.geteuid() == 0
        and shutil.which("unshare") is not None
        and subprocess.run([*OWN_PROCESSES, "true"], check=False, capture_output=True).returncode == 0
    )


@contextmanager
def submitted(
    folder: Path, *words: str | Path, restarts: int, **changes: str
) -> Iterator[subprocess.Popen[str]]:
    """The script as SLURM starts it; its process namespace, and all in it, ends with the context."""
    stubs = folder / "bin"
    stubs.mkdir(exist_ok=True)
    for name, text in STUBS.items():
        (stubs / name).write_text(f"#!/bin/bash\n{text}\n")
        (stubs / name).chmod(0o755)
    job = {
        "SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "one", "SLURM_NNODES": "1",
        "SLURM_CPUS_PER_TASK": "2", "SLURM_SUBMIT_DIR": str(ROOT), "SLURM_RESTART_COUNT": str(restarts),
        "XFERLAB_VENV": sys.prefix, "NOTES": str(folder / "notes"), "HOME": str(folder),
        "PATH": f"{stubs}:{os.environ['PATH']}", **changes,
    }  # fmt: skip
    log = folder / f"job-{restarts}.log"
    with log.open("w") as out, subprocess.Popen(
        [*OWN_PROCESSES, "bash", SCRIPT, *map(str, words)], env={**environment(folder), **job}, cwd=folder,
        stdout=out, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()  # the kernel kills the rest of the namespace


def script_of(process: subprocess.Popen[str]) -> int:
    """The shell inside, whom SLURM sends its notice."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


@pytest.mark.slow
@pytest.mark.skipif(not can_unshare(), reason="needs root and unshare for a process namespace")
def test_a_notice_saves_and_requeues_and_the_next_submission_completes(tmp_path: Path) -> None:
    study, storage = write_study(tmp_path, **LONG), tmp_path / "st"
    words = (study, "--storage", storage)
    with submitted(tmp_path, *words, restarts=0) as job:
        until_training(storage, job, tmp_path / "job-0.log")
        os.kill(script_of(job), signal.SIGUSR1)
        assert job.wait(timeout=WITHIN_S) == 75, (tmp_path / "job-0.log").read_text()
    assert (tmp_path / "notes").read_text() == f"requeue {os.getpid()}\n"
    assert {one["outcome"] for tries in attempts(storage).values() for one in tries} == {"interrupted"}
    assert not list(storage.rglob("driver.lease"))
    assert not list(Path("/tmp").glob(f"xl-{os.getpid()}-*"))

    with submitted(tmp_path, *words, restarts=1) as job:
        status = job.wait(timeout=WITHIN_S)
    log = (tmp_path / "job-1.log").read_text()
    assert status == 0, log
    assert "all 2 trials complete" in log
    assert (tmp_path / "notes").read_text().count("requeue") == 1
    whole = xferlab(tmp_path, "run", study, "--storage", tmp_path / "whole", "--executor", "in-process")
    assert whole.returncode == 0, whole.stderr
    assert recorded(storage) == recorded(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.skipif(not can_unshare(), reason="needs root and unshare for a process namespace")
def test_a_bad_study_is_not_requeued(tmp_path: Path) -> None:
    study = write_study(tmp_path, model={"init_features": -1})
    with submitted(tmp_path, study, restarts=0) as job:
        assert job.wait(timeout=WITHIN_S) == 2
    assert "init_features" in (tmp_path / "job-0.log").read_text()
    assert not (tmp_path / "notes").exists()


def until_training(storage: Path, job: subprocess.Popen[str], log: Path) -> None:
    """Waits until a trial has finished some epochs."""
    deadline = time.monotonic() + WITHIN_S
    while not any(path.stat().st_size > 500 for path in storage.glob("trials/*/history.jsonl")):
        assert job.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not can_unshare(), reason="needs root and unshare for a process namespace")
def test_a_ray_that_does_not_start_is_no_success(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    with submitted(tmp_path, study, restarts=0, SLURM_CPUS_PER_TASK="many") as job:
        assert job.wait(timeout=WITHIN_S) == 1
    assert "Invalid value for '--num-cpus'" in (tmp_path / "job-0.log").read_text()
    assert not (tmp_path / "notes").exists()
