"""Ctrl-C and SIGTERM on a real process: an exit within seconds, and the same command continues."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.processes import hear_hang_up, start, until_gone, until_training
from tests.studies import TINY, attempts, recorded, write_study, xferlab
from xferlab.schedule.watch import below

pytestmark = pytest.mark.slow

WITHIN_S = 30.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
IN_PROCESS = ("--executor", "in-process")
RAY = ("--workers", "2")
LONG = {
    "training": {**TINY["training"], "max_epochs": 100, "patience": 100, "checkpoint_every_s": 60},
    "stages": {"general": {"data": "general", "repetitions": 2, "evaluate_on": ["general.test"]}},
    "arms": {"a": {}},
}


def begun(
    folder: Path, *executor: str, storage: str = "st", **options: Any
) -> tuple[Path, subprocess.Popen[str]]:
    """Starts a long study; returns its file and its process, when a trial has finished some epochs."""
    study = write_study(folder, **LONG)
    process = start(folder, "run", study, "--storage", folder / storage, *executor, **options)
    until_training(folder / storage, process, has="progress.jsonl", least_bytes=500)
    return study, process


@pytest.mark.parametrize(
    ("executor", "number", "send"),
    [
        (IN_PROCESS, signal.SIGINT, os.kill),
        (IN_PROCESS, signal.SIGHUP, os.kill),
        (RAY, signal.SIGTERM, os.killpg),  # as `timeout` and some batch systems send it
        *((RAY, number, os.kill) for number in SIGNALS),
    ],
)
def test_one_signal_ends_it_and_nothing_is_lost(
    tmp_path: Path, executor: tuple[str, ...], number: signal.Signals, send: Callable[[int, int], None]
) -> None:
    storage = tmp_path / "stopped"
    study, process = begun(tmp_path, *executor, storage="stopped")
    children = below(process.pid)
    asked = time.monotonic()
    send(process.pid, number)
    out, err = process.communicate(timeout=WITHIN_S)
    print(f"{executor[0]} {number.name}: ended after {time.monotonic() - asked:.1f} s")
    assert process.returncode == (130 if number == signal.SIGINT else 75), err
    assert "Traceback" not in err
    until_gone(children, within_s=5.0)
    assert "interrupted: 0 of 2 trials complete; the same command continues" in out
    assert not [*storage.rglob("driver.lease"), *storage.rglob("failure.json")]
    tries = attempts(storage)
    assert {attempt["outcome"] for (attempt,) in tries.values()} == {"interrupted"}
    assert all(list((storage / "trials" / trial_id).glob("checkpoint/state-*")) for trial_id in tries)

    for folder, ways in ((storage, executor), (tmp_path / "whole", IN_PROCESS)):
        xferlab(tmp_path, "run", study, "--storage", folder, *ways, code=0)
    for trial_id, (stopped,) in tries.items():
        _, resumed = attempts(storage)[trial_id]
        assert resumed["outcome"] == "complete"
        assert resumed["first_epoch"] == stopped.get("last_epoch", 0) + 1
    assert recorded(storage) == recorded(tmp_path / "whole")


@pytest.mark.parametrize("executor", [IN_PROCESS, RAY])
def test_a_signal_while_images_are_read_ends_it(tmp_path: Path, executor: tuple[str, ...]) -> None:
    general = {**TINY["data"]["general"], "count": 4000, "size_px": 256}
    study = write_study(tmp_path, **{**LONG, "data": {"general": general}})
    with start(tmp_path, "run", study, "--storage", tmp_path / "st", *executor) as process:
        assert process.stdout is not None
        assert any("reading images of general" in line for line in process.stdout)
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=WITHIN_S)
    print(f"{executor[0]} while images were read: ended after {time.monotonic() - asked:.1f} s")
    assert process.returncode == 75, err
    assert "Traceback" not in err
    assert not list((tmp_path / "st").rglob("driver.lease"))
    assert not list((tmp_path / "st").glob("trials/*"))


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    _, process = begun(tmp_path, *IN_PROCESS)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 130
    assert "Traceback" not in err


@pytest.mark.parametrize("executor", [IN_PROCESS, RAY])
def test_a_terminal_that_closes_is_a_request_to_stop(tmp_path: Path, executor: tuple[str, ...]) -> None:
    terminal, inner = os.openpty()
    _, process = begun(tmp_path, *executor, output=inner, preexec_fn=_control_terminal)
    os.close(inner)
    os.close(terminal)  # the kernel tells the first process of the terminal
    assert process.wait(timeout=WITHIN_S) == 75
    assert list(tmp_path.glob("st/trials/*/checkpoint/state-*"))
    assert not list(tmp_path.rglob("driver.lease"))


def _control_terminal() -> None:
    """Makes standard output the terminal that controls this process."""
    hear_hang_up()
    fcntl.ioctl(1, termios.TIOCSCTTY, 0)


def test_a_second_run_of_the_study_is_refused(tmp_path: Path) -> None:
    study, process = begun(tmp_path, *IN_PROCESS)
    second = xferlab(tmp_path, "run", study, "--storage", tmp_path / "st", *IN_PROCESS)
    status = xferlab(tmp_path, "status", study, "--storage", tmp_path / "st")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=WITHIN_S)
    refused = f"xferlab: study 'tiny' in {tmp_path / 'st'} is driven by process {process.pid} on "
    assert (second.returncode, status.returncode) == (2, 1)
    assert second.stderr.splitlines()[-1].startswith(refused)
    assert f"running on {socket.gethostname()} since 20" in status.stdout
