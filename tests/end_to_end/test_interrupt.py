"""Ctrl-C and SIGTERM on a real process: an exit within seconds, and the same command continues."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.end_to_end.processes import descendants, until_gone
from tests.studies import TINY, attempts, command, environment, recorded, write_study, xferlab

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


def start(folder: Path, *words: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*words), env=environment(folder), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip


def until_training(storage: Path, process: subprocess.Popen[str]) -> None:
    """Waits until a trial has finished some epochs."""
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size > 500 for path in storage.glob("trials/*/progress.jsonl")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("executor", "number"),
    [(IN_PROCESS, signal.SIGINT), (IN_PROCESS, signal.SIGHUP), *((RAY, one) for one in SIGNALS)],
)
def test_one_signal_ends_it_and_nothing_is_lost(
    tmp_path: Path, executor: tuple[str, ...], number: signal.Signals
) -> None:
    study = write_study(tmp_path, **LONG)
    storage = tmp_path / "stopped"
    with start(tmp_path, "run", study, "--storage", storage, *executor) as process:
        until_training(storage, process)
        below = descendants(process.pid)
        asked = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=WITHIN_S)
    took_s = time.monotonic() - asked
    print(f"{executor[0]} {number.name}: ended after {took_s:.1f} s")
    assert process.returncode == (130 if number == signal.SIGINT else 75), err
    assert "Traceback" not in err
    until_gone(below, within_s=5.0)
    assert "interrupted: 0 of 2 trials complete; the same command continues" in out
    assert not list(storage.rglob("driver.lease"))
    assert not list(storage.rglob("failure.json"))
    tries = attempts(storage)
    assert {one["outcome"] for (one,) in tries.values()} == {"interrupted"}
    assert all(list((storage / "trials" / one).glob("checkpoint/state-*")) for one in tries)

    again = xferlab(tmp_path, "run", study, "--storage", storage, *executor)
    assert again.returncode == 0, again.stderr
    for one in tries:
        stopped, resumed = attempts(storage)[one]
        assert resumed["outcome"] == "complete"
        assert resumed["first_epoch"] == stopped.get("last_epoch", 0) + 1
    whole = xferlab(tmp_path, "run", study, "--storage", tmp_path / "whole", *IN_PROCESS)
    assert whole.returncode == 0, whole.stderr
    assert recorded(storage) == recorded(tmp_path / "whole")


def test_a_signal_to_the_whole_process_group_loses_nothing(tmp_path: Path) -> None:
    """As `timeout` and some batch systems send it."""
    storage = tmp_path / "st"
    study = write_study(tmp_path, **LONG)
    with start(tmp_path, "run", study, "--storage", storage, *RAY) as process:
        until_training(storage, process)
        below = descendants(process.pid)
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 75, err
    assert "interrupted: 0 of 2 trials complete; the same command continues" in out
    assert "Traceback" not in err
    until_gone(below, within_s=5.0)
    tries = attempts(storage)
    assert {one["outcome"] for (one,) in tries.values()} == {"interrupted"}
    assert all(list((storage / "trials" / one).glob("checkpoint/state-*")) for one in tries)


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
    study = write_study(tmp_path, **LONG)
    with start(tmp_path, "run", study, "--storage", tmp_path / "st", *IN_PROCESS) as process:
        until_training(tmp_path / "st", process)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_second_run_of_the_study_is_refused(tmp_path: Path) -> None:
    study = write_study(tmp_path, **LONG)
    with start(tmp_path, "run", study, "--storage", tmp_path / "st", *IN_PROCESS) as process:
        until_training(tmp_path / "st", process)
        second = xferlab(tmp_path, "run", study, "--storage", tmp_path / "st", *IN_PROCESS)
        status = xferlab(tmp_path, "status", study, "--storage", tmp_path / "st")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=WITHIN_S)
    assert second.returncode == 2
    said = f"xferlab: study 'tiny' in {tmp_path / 'st'} is driven by process {process.pid} on "
    assert second.stderr.splitlines()[-1].startswith(said)
    assert status.returncode == 1
    assert f"running on {socket.gethostname()} since 20" in status.stdout
