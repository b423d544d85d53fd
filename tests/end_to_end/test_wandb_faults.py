"""A study whose W&B is out of order gives the records of one without it, in the same time."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.end_to_end.processes import start
from tests.studies import TINY, environment, recorded, write_study, xferlab
from tests.studies import command as words
from tests.tracking.wandb_files import offline_runs
from tests.tracking.wandb_processes import SERVICE, WRITER, kill_one, mirror_processes, until
from tests.tracking.wandb_server import ABSENT, FAULTS, KEY, Server
from xferlab.tracking import live, pipe
from xferlab.tracking.live import TrialMirror

pytestmark = pytest.mark.slow

EPOCHS = 40
ALL = list(range(1, EPOCHS + 1))
"""The epochs of the trial, and of the curves in the run of the study."""
SLACK_S = 15.0
ONE = {
    "data": {"general": TINY["data"]["general"]},
    "stages": {"general": {"data": "general", "repetitions": 1, "evaluate_on": ["general.test"]}},
    "arms": {"baseline": {}},
    "training": {**TINY["training"], "max_epochs": EPOCHS, "patience": EPOCHS, "checkpoint_every_s": 60},
}
RUN = ("run", "study.yaml", "--executor", "in-process", "--storage", "results")
MIRROR = ("mirror", "study.yaml", "--storage", "results")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The records of the study without tracking."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_study(folder, **ONE)
    xferlab(folder, *RUN, code=0)
    return recorded(folder / "results")


class Clock:
    """Sums the time that a trial's thread spends in its mirror; `at_epoch` disturbs it."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.spent_s, self.started = 0.0, 0.0
        self.at_epoch: Callable[[int], None] = lambda epoch: None
        for name in ("start", "epoch", "outputs", "finish"):
            patch.setattr(TrialMirror, name, self._timed(name, getattr(TrialMirror, name)))

    def _timed(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            if name == "epoch":
                self.at_epoch(args[1].epoch)
            started = time.monotonic()
            try:
                return method(*args, **kwargs)
            finally:
                self.spent_s += time.monotonic() - started

        return timed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def wandb_folder(folder: Path) -> Path:
    return folder / "cache" / "wandb"


def tracked(folder: Path, mode: str) -> None:
    write_study(folder, **ONE, tracking={"wandb": {"project": "faults", "mode": mode}})


def is_told(said: Any) -> bool:
    """Whether a run that is complete ends with one line on its mirror."""
    assert said.code == 0, said.err
    lines = [line for line in said.err.splitlines() if line.startswith("warning: W&B lacks")]
    assert len(lines) == 1, said.err
    assert lines[0].endswith("`xferlab mirror study.yaml --storage results` completes it")
    assert "Traceback" not in said.err
    print(lines[0])
    return True


def is_harmless(folder: Path, clock: Clock, undisturbed: dict[str, str]) -> bool:
    """Whether records are those of a study without tracking, the trial lost little time, nothing is left."""
    assert recorded(folder / "results") == undisturbed
    print(f"{clock.spent_s:.3f} s in the mirror: {clock.spent_s / 60:.2%} of a trial of one minute")
    assert clock.spent_s < live.FINISH_AT_LEAST_S + SLACK_S / 3
    until(lambda: not mirror_processes(wandb_folder(folder)), timeout_s=pipe.LINGER_S + SLACK_S)
    assert KEY.encode() not in b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())
    return True


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("fault", ["dns", "refused", *FAULTS])
def test_a_server_out_of_order(
    command: Command, tmp_path: Path, server: Server, clock: Clock, undisturbed: dict[str, str], fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    tracked(tmp_path, "online")
    server.fault = None if fault in ABSENT else fault
    monkeypatch.setenv("WANDB_BASE_URL", ABSENT.get(fault, server.url))
    assert is_told(command(*RUN))
    assert is_harmless(tmp_path, clock, undisturbed)
    server.fault = None
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    assert command(*MIRROR).code == 0
    assert [run.epochs for run in server.runs.values()] == [ALL, ALL]
    assert command(*RUN).err == ""


@contextmanager
def small_disk(folder: Path, *, size: str = "1m") -> Iterator[bool]:
    """A disk of its own for a folder; False where mounting one is not allowed."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            until(lambda: not mirror_processes(folder))
            subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, *, mounted: bool) -> None:
    """Takes all that is left of a disk; else forbids the mirror's processes to lengthen any file."""
    if not mounted:
        for pid in mirror_processes(folder):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1024, 1024))
        return
    free = shutil.disk_usage(folder).free
    (folder / "filler").write_bytes(bytes(free))
    assert shutil.disk_usage(folder).free == 0


def make_writable(folder: Path, writable: bool, *, mounted: bool) -> None:
    if mounted:  # permissions stop nobody who may mount
        options = f"remount,{'rw' if writable else 'ro'}"
        subprocess.run(["mount", "-o", options, str(folder)], check=True)
    else:
        folder.chmod(0o700 if writable else 0o500)


@pytest.mark.parametrize("fault", ["full", "full later", "read-only"])
def test_a_folder_that_takes_no_more(
    command: Command, tmp_path: Path, clock: Clock, undisturbed: dict[str, str], fault: str
) -> None:
    tracked(tmp_path, "offline")
    folder = wandb_folder(tmp_path)
    with small_disk(folder) as mounted:

        def disturb(epoch: int) -> None:
            if fault == "full later" and epoch == 5:
                until(lambda: list(folder.glob("wandb/offline-run-*/run-*.wandb")))
            if epoch == 5 or (fault == "full" and not mounted):
                fill(folder, mounted=mounted)

        if fault == "read-only":
            make_writable(folder, False, mounted=mounted)
        elif fault == "full" and mounted:
            fill(folder, mounted=True)
        else:
            clock.at_epoch = disturb
        assert is_told(command(*RUN))
        assert is_harmless(tmp_path, clock, undisturbed)
        said = command(*MIRROR)
        if mounted or fault == "read-only":
            assert (said.code, "nothing is sent twice" in said.err) == (1, True)
        make_writable(folder, True, mounted=mounted)
        (folder / "filler").unlink(missing_ok=True)
        assert command(*MIRROR).code == 0
        (run,) = (run for run in offline_runs(folder) if run.run.job_type == "general")
        assert run.epochs == ALL
        assert command(*RUN).err == ""


@pytest.mark.parametrize("mode", ["offline", "online"])
@pytest.mark.parametrize("victim", [WRITER, SERVICE])
def test_a_process_is_killed(
    command: Command, tmp_path: Path, server: Server, clock: Clock, undisturbed: dict[str, str], victim: str,
    mode: str,
) -> None:  # fmt: skip
    tracked(tmp_path, mode)
    folder = wandb_folder(tmp_path)

    def disturb(epoch: int) -> None:
        if epoch == 5:
            until(lambda: list(folder.glob("wandb/*run-*/run-*.wandb")))
            kill_one(folder, victim)

    clock.at_epoch = disturb
    said = command(*RUN)
    assert (said.code, "warning: W&B" in said.err) == (0, False)  # the end of the run has completed it
    assert is_harmless(tmp_path, clock, undisturbed)
    told = [run.epochs for run in server.runs.values()]
    if mode == "offline":
        runs = list(offline_runs(folder))
        told = [run.epochs for run in runs]
        assert [run.summary["outcome"] for run in runs] == ["complete", "complete"]
    assert told == [ALL, ALL]
    assert not list((tmp_path / "results/studies/tiny/mirror").glob("*"))


def test_a_driver_is_killed_and_nothing_stays(tmp_path: Path, server: Server) -> None:
    server.break_on = (b"wandb-history", "hang")
    long = {**ONE["training"], "max_epochs": 10_000, "patience": 10_000}
    write_study(tmp_path, **{**ONE, "training": long}, tracking={"wandb": {"mode": "online"}})
    folder = wandb_folder(tmp_path)
    with start(tmp_path, *RUN, output=subprocess.DEVNULL) as driver:
        until(lambda: server.refused > 0, timeout_s=60)
        assert sorted(mirror_processes(folder).values()) == [SERVICE, WRITER]
        driver.send_signal(signal.SIGKILL)
    started = time.monotonic()
    until(lambda: not mirror_processes(folder), timeout_s=pipe.LINGER_S + SLACK_S)
    print(f"nothing left {time.monotonic() - started:.1f} s after the driver was killed")


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_a_killed_rebuild_goes_on(command: Command, tmp_path: Path, server: Server, mode: str) -> None:
    write_study(tmp_path, tracking={"wandb": {"mode": "disabled"}})
    assert command(*RUN).code == 0
    folder = wandb_folder(tmp_path)
    for number in range(2):
        with subprocess.Popen(
            words(*MIRROR, "--mode", mode), env=environment(tmp_path), cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        ) as driver:  # fmt: skip
            assert driver.stdout is not None
            for _ in range(number):
                driver.stdout.readline()
            until(lambda: SERVICE in mirror_processes(folder).values())
            os.kill(driver.pid, signal.SIGKILL)
    said = command(*MIRROR, "--mode", mode, code=0)
    print(said.out)
    until(lambda: not mirror_processes(folder), timeout_s=pipe.LINGER_S + SLACK_S)
    told = [run.epochs for run in server.runs.values() if "superseded" not in run.tags]
    if mode == "offline":
        told = [run.epochs for run in offline_runs(folder)]
    assert told == [[1, 2, 3, 4]] * 7
    assert command(*MIRROR, "--mode", mode).out.splitlines()[-1].startswith("0 written, 7 were there")


def test_under_ray_the_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", ABSENT["refused"])
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    tracked(tmp_path, "online")
    study = {**environment(tmp_path), "WANDB_MODE": ""}
    done = subprocess.run(
        words("run", "study.yaml", "--storage", "results", "--workers", "1"), env=study, cwd=tmp_path,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "W&B" in line]
    assert len(lines) == 1
    assert "`xferlab mirror study.yaml --storage results` completes it" in lines[0]
    until(lambda: not mirror_processes(wandb_folder(tmp_path)), timeout_s=pipe.LINGER_S + SLACK_S)
