"""The batch scripts for SLURM, run for real on one node: stubs of SLURM's commands beside a real Ray."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clusters.network import OWN_PROCESSES, lacking, network
from tests.studies import (
    TINY,
    attempts,
    environment,
    has_trained,
    outcomes,
    recorded,
    undisturbed,
    write_study,
)

ROOT = Path(__file__).parents[2]
SCRIPT, ONE_GPU = ROOT / "jobs" / "slurm.sbatch", ROOT / "jobs" / "slurm-one-gpu.sbatch"
WITHIN_S = 240.0
STUBS = {
    "srun": 'while [[ $1 == --* ]]; do shift; done\nexec "$@"',
    "scontrol": 'if [[ $1 == show ]]; then echo "$HEAD_NODE"; else echo "$@" >>"$NOTES"; fi',
    "module": 'echo module "$@" >>"$NOTES.options"',
    "apptainer": 'echo apptainer "$1" "$2" "$3" >>"$NOTES.options"\nshift 3\nexec "$@"',
}
TELLING = """\
while [[ $1 == --* ]]; do shift; done
if [[ ! -e $NOTES.step ]]; then
    env -0 >"$NOTES.env"
    printf '%s\\0' "$@" >"$NOTES.new"
    mv "$NOTES.new" "$NOTES.step"
fi
exec "$@"
"""
"""An `srun` that tells its first command, so that another host can run it, too."""
LONG = {
    "training": {**TINY["training"], "max_epochs": 60, "patience": 60, "checkpoint_every_s": 60},
    "stages": {"general": {"data": "general", "repetitions": 2, "evaluate_on": ["general.test"]}},
    "arms": {"a": {}},
}


@pytest.mark.parametrize("script", [SCRIPT, ONE_GPU], ids=lambda script: script.stem)
def test_shellcheck_finds_nothing(script: Path) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    found = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("script", [SCRIPT, ONE_GPU], ids=lambda script: script.stem)
def test_it_asks_for_a_notice_to_the_script_and_for_its_place_in_the_queue(script: Path) -> None:
    asked = set(re.findall(r"^#SBATCH (.*)$", script.read_text(), re.MULTILINE))
    assert {"--requeue", "--open-mode=append", "--signal=B:USR1@240"} <= asked
    assert ("--exclusive" in asked) == (script == SCRIPT)
    assert ("--gpus=1" in asked) == (script == ONE_GPU)


COPYING = {
    "cp": 'mkdir -p "$4" && touch "$4/part" && echo copies >>"$NOTES"\nexec sleep 600',
    "full": 'mkdir -p "$4" && touch "$4/part"\necho "No space left on device" >&2\nexit 1',
    "ray": 'while [[ $# -gt 0 && $1 != -- ]]; do shift; done\nshift\n"$@"',
    "xferlab": 'echo runs >>"$NOTES"\nls "$XFERLAB_CACHE" >>"$NOTES"',
}
"""Stubs of the commands that the scripts start, beside those of SLURM."""


@pytest.mark.component
@pytest.mark.parametrize("script", [SCRIPT, ONE_GPU], ids=lambda script: script.stem)
@pytest.mark.parametrize("case", ["fits", "full", "USR1", "TERM"])
def test_a_copy_of_the_cache_that_is_stopped_or_fails_leaves_nothing(
    tmp_path: Path, script: Path, case: str
) -> None:
    """A notice during the copy requeues the job; SIGTERM, which `scancel` sends, and a full disk end it."""
    stubs = {**STUBS, **COPYING, "cp": COPYING["full" if case == "full" else "cp"]}
    if case == "fits":
        del stubs["cp"]
    path, notes, local = tmp_path / "venv/bin", tmp_path / "notes", tmp_path / "local"
    for folder in (path, local, cache := tmp_path / "cache"):
        folder.mkdir(parents=True)
    (cache / "whole").touch()
    for name, text in stubs.items():
        (path / name).write_text(f"#!/bin/bash\n{text}\n")
        (path / name).chmod(0o755)
    (path / "python").symlink_to(sys.executable)
    env = {
        "SLURM_JOB_ID": f"{os.getpid()}", "SLURM_JOB_NODELIST": "one", "SLURM_NNODES": "1",
        "SLURM_CPUS_PER_TASK": "1", "SLURM_SUBMIT_DIR": str(tmp_path), "XFERLAB_VENV": str(path.parent),
        "XFERLAB_CACHE": str(cache), "XFERLAB_LOCAL": str(local), "NOTES": str(notes), "HOME": str(tmp_path),
        "PATH": os.environ["PATH"], "HEAD_NODE": "one",
    }  # fmt: skip
    log = tmp_path / "job.log"
    with log.open("w") as out, subprocess.Popen(
        ["bash", script, "study.yaml"], env=env, stdout=out, stderr=subprocess.STDOUT, text=True
    ) as job:  # fmt: skip
        if case in ("USR1", "TERM"):
            eventually(notes.exists, job, log)
            job.send_signal(signal.Signals[f"SIG{case}"])
        status = job.wait(timeout=WITHIN_S)
    told = notes.read_text().split("\n") if notes.exists() else []
    expected = {
        "fits": (0, ["runs", "whole", ""]),
        "full": (1, []),
        "USR1": (75, ["copies", f"requeue {os.getpid()}", ""]),
        "TERM": (75, ["copies", ""]),
    }
    assert (status, told) == expected[case], log.read_text()
    assert not list(local.iterdir())
    assert "unbound" not in log.read_text()


def can_unshare() -> bool:
    return (
        os.geteuid() == 0
        and shutil.which("unshare") is not None
        and subprocess.run([*OWN_PROCESSES, "true"], check=False, capture_output=True).returncode == 0
    )


@contextmanager
def submitted(
    folder: Path,
    *words: str | Path,
    restarts: int,
    script: Path = SCRIPT,
    stubs: dict[str, str] | None = None,
    **changes: str,
) -> Iterator[subprocess.Popen[str]]:
    """The script as SLURM starts it; its process namespace, and all in it, ends with the context."""
    path = folder / "bin"
    path.mkdir(exist_ok=True)
    for name, text in {**STUBS, **(stubs or {})}.items():
        (path / name).write_text(f"#!/bin/bash\n{text}\n")
        (path / name).chmod(0o755)
    job = {
        "SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "one", "SLURM_NNODES": "1",
        "SLURM_CPUS_PER_TASK": "2", "SLURM_SUBMIT_DIR": str(ROOT), "SLURM_RESTART_COUNT": str(restarts),
        "XFERLAB_VENV": sys.prefix, "NOTES": str(folder / "notes"), "HOME": str(folder),
        "PATH": f"{path}:{os.environ['PATH']}", "HEAD_NODE": "127.0.0.1", **changes,
    }  # fmt: skip
    log = folder / f"job-{restarts}.log"
    on_head = ["ip", "netns", "exec", job["HEAD"]] if "HEAD" in job else []
    with log.open("w") as out, subprocess.Popen(
        [*on_head, *OWN_PROCESSES, "bash", script, *map(str, words)], env={**environment(folder), **job},
        cwd=folder, stdout=out, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()  # the kernel kills the rest of the namespace
            for left in Path("/tmp").glob(f"xl-{job['SLURM_JOB_ID']}-*"):
                subprocess.run(["rm", "-rf", left], check=False)


def script_of(process: subprocess.Popen[str]) -> int:
    """The shell inside, whom SLURM sends its notice."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


@pytest.mark.slow
@pytest.mark.skipif(not can_unshare(), reason="needs root and unshare for a process namespace")
@pytest.mark.parametrize("script", [SCRIPT, ONE_GPU], ids=lambda script: script.stem)
def test_a_notice_saves_and_requeues_and_the_next_submission_completes(tmp_path: Path, script: Path) -> None:
    """The second submission with all that both scripts offer: an image, modules, a copy of the cache."""
    study, storage = write_study(tmp_path, **LONG), tmp_path / "st"
    words = (study, "--storage", storage)
    with submitted(tmp_path, *words, restarts=0, script=script) as job:
        until_training(storage, job, tmp_path / "job-0.log")
        os.kill(script_of(job), signal.SIGUSR1)
        assert job.wait(timeout=WITHIN_S) == 75, (tmp_path / "job-0.log").read_text()
    assert (tmp_path / "notes").read_text() == f"requeue {os.getpid()}\n"
    assert {ended for tries in outcomes(storage).values() for ended in tries} == {"interrupted"}
    assert not list(storage.rglob("driver.lease"))
    assert not list(Path("/tmp").glob(f"xl-{os.getpid()}-*"))

    local = tmp_path / "local"
    local.mkdir()
    offered = {"XFERLAB_IMAGE": "x.sif", "XFERLAB_MODULES": "python/3.12 cuda", "XFERLAB_LOCAL": str(local)}
    with submitted(tmp_path, *words, restarts=1, script=script, **offered) as job:
        eventually(lambda: list(local.iterdir()), job, tmp_path / "job-1.log")
        status = job.wait(timeout=WITHIN_S)
    log = (tmp_path / "job-1.log").read_text()
    assert status == 0, log
    assert "all 2 trials complete" in log
    assert "raylet" not in log
    assert (tmp_path / "notes").read_text().count("requeue") == 1
    options = (tmp_path / "notes.options").read_text().splitlines()
    assert (options[0], set(options[1:])) == ("module load python/3.12 cuda", {"apptainer exec --nv x.sif"})
    assert not list(local.iterdir())
    assert recorded(storage) == undisturbed(tmp_path, study)


@pytest.mark.slow
@pytest.mark.skipif(not can_unshare(), reason="needs root and unshare for a process namespace")
def test_a_bad_study_is_not_requeued(tmp_path: Path) -> None:
    study = write_study(tmp_path, model={"init_features": -1})
    with submitted(tmp_path, study, restarts=0) as job:
        assert job.wait(timeout=WITHIN_S) == 2
    assert "init_features" in (tmp_path / "job-0.log").read_text()
    assert not (tmp_path / "notes").exists()


@pytest.mark.slow
@pytest.mark.skipif(bool(lacking()), reason=lacking() or "-")
def test_two_hosts_join(tmp_path: Path) -> None:
    study, storage = write_study(tmp_path, **LONG), tmp_path / "st"
    step = tmp_path / "notes.step"
    with network(tmp_path, "head", "east") as hosts:
        job_of_two = submitted(
            tmp_path, study, "--storage", storage, restarts=0, stubs={"srun": TELLING},
            HEAD=hosts.namespace("head"), HEAD_NODE=hosts.address("head"), SLURM_NNODES="2",
            SLURM_CPUS_PER_TASK="1",
        )  # fmt: skip
        with job_of_two as job:
            eventually(step.exists, job, tmp_path / "job-0.log")
            env = dict(one.split("=", 1) for one in (tmp_path / "notes.env").read_text().split("\0") if one)
            words = step.read_text().split("\0")[:-1]
            other = hosts.start("east", *OWN_PROCESSES, *words, env=env)
            status = job.wait(timeout=WITHIN_S)
            ended = time.monotonic()
            other.wait(timeout=WITHIN_S)
            print(f"the other host followed after {time.monotonic() - ended:.0f} s")
    log = (tmp_path / "job-0.log").read_text()
    assert status == 0, log
    assert "all 2 trials complete" in log
    assert {one["host"] for tries in attempts(storage).values() for one in tries} == {
        socket.gethostname(), "east",
    }  # fmt: skip


def until_training(storage: Path, job: subprocess.Popen[str], log: Path) -> None:
    """Waits until a trial has finished some epochs."""
    eventually(lambda: has_trained(storage), job, log)


def eventually(holds: Callable[[], object], job: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
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
