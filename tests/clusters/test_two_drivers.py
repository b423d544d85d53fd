"""Drivers and workers that stand still too long, drivers side by side: equal bytes, work twice at worst."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.end_to_end.processes import alive, eventually, until_gone
from tests.studies import (
    TINY,
    attempts,
    command,
    environment,
    has_trained,
    outcomes,
    recorded,
    undisturbed,
    write_study,
)
from xferlab.schedule.watch import below

pytestmark = pytest.mark.slow

LEASE_S, WITHIN_S, GONE_WITHIN_S = 3.0, 120.0, 30.0
IN_PROCESS = ("--executor", "in-process")
RAY = ("--workers", "2")
LONG = {
    "training": {**TINY["training"], "max_epochs": 120, "patience": 120, "checkpoint_every_s": 0.2},
    "stages": {"general": {"data": "general", "repetitions": 2, "evaluate_on": ["general.test"]}},
    "arms": {"a": {}},
}


@contextmanager
def driver(folder: Path, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """`xferlab run`, in a session of its own; what is left of it is killed at the end."""
    with subprocess.Popen(
        command("run", *words), env={**environment(folder), "XFERLAB_LEASE_S": str(LEASE_S)}, cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            for pid in family(process.pid):
                os.kill(pid, signal.SIGKILL)


def family(leader: int) -> list[int]:
    """A process and all below it; Ray's have sessions of their own."""
    return [leader, *below(leader)] if alive(leader) else []


def tried_by(storage: Path, process: subprocess.Popen[str]) -> list[str]:
    """Trials whose last attempt is in a process of a driver."""
    pids = family(process.pid)
    return [trial for trial, tries in attempts(storage).items() if tries[-1]["pid"] in pids]


def expire(storage: Path, process: subprocess.Popen[str]) -> None:
    """Waits until the lease of a process that stands still has run out."""
    lease = json.loads((storage / "studies/tiny/driver.lease").read_text())
    assert lease["pid"] == process.pid
    time.sleep(max(0.0, lease["beat"] + LEASE_S - time.monotonic()))


@pytest.mark.parametrize("executor", [IN_PROCESS, RAY], ids=["in-process", "ray"])
def test_a_driver_that_stood_still_is_succeeded_and_ends_when_it_wakes(
    tmp_path: Path, executor: tuple[str, ...]
) -> None:
    study, storage = write_study(tmp_path, **LONG), tmp_path / "st"
    words = (study, "--storage", storage, *executor)
    with driver(tmp_path, *words) as first:
        eventually(lambda: has_trained(storage), first)
        first.send_signal(signal.SIGSTOP)
        expire(storage, first)
        begun = tried_by(storage, first)
        with driver(tmp_path, *words) as second:
            eventually(lambda: set(begun) & set(tried_by(storage, second)), second)
            asleep = family(first.pid)
            first.send_signal(signal.SIGCONT)
            _, said = first.communicate(timeout=WITHIN_S)
            out, err = second.communicate(timeout=WITHIN_S)
        until_gone(asleep, within_s=GONE_WITHIN_S)
    assert "Traceback" not in said + err
    assert (first.returncode, second.returncode) == (2, 0), said + err
    assert f"was taken over by process {second.pid} on " in said.splitlines()[-1]
    assert f"taken over from process {first.pid} on " in err
    assert "all 2 trials complete" in out
    assert not list(storage.rglob("driver.lease"))
    assert recorded(storage) == undisturbed(tmp_path, study)
    ended = outcomes(storage)
    print(ended)
    assert all(len(tries) <= 2 and tries.count("complete") >= 1 for tries in ended.values())
    assert all(len(ended[trial]) == 2 for trial in begun)


def test_workers_that_stood_still_with_their_driver_change_nothing_when_they_wake(tmp_path: Path) -> None:
    study, storage = write_study(tmp_path, **LONG), tmp_path / "st"
    with driver(tmp_path, study, "--storage", storage, *RAY) as first:
        eventually(lambda: has_trained(storage) and len(tried_by(storage, first)) == 2, first)
        asleep = family(first.pid)  # with Ray and both workers, like a machine that is suspended
        for pid in asleep:
            os.kill(pid, signal.SIGSTOP)
        expire(storage, first)
        with driver(tmp_path, study, "--storage", storage, *IN_PROCESS) as second:
            eventually(lambda: tried_by(storage, second), second)
            assert set(family(first.pid)) == set(asleep)
            for pid in asleep:
                os.kill(pid, signal.SIGCONT)
            _, said = first.communicate(timeout=WITHIN_S)
            out, err = second.communicate(timeout=WITHIN_S)
        until_gone(asleep, within_s=GONE_WITHIN_S)
    assert (second.returncode, "all 2 trials complete" in out) == (0, True), err
    assert "Traceback" not in said
    assert first.returncode == 2, said
    assert recorded(storage) == undisturbed(tmp_path, study)


def test_two_studies_that_share_trials_run_side_by_side(tmp_path: Path) -> None:
    shared = write_study(tmp_path, **LONG)
    other = tmp_path / "other.yaml"
    arms = {"a": {}, "b": {"stages.general.training": {"lr": 0.01, "max_epochs": 50}}}
    other.write_text(yaml.safe_dump({**TINY, **LONG, "study": "other", "arms": arms}, sort_keys=False))
    storage = tmp_path / "st"
    plainly = driver(tmp_path, shared, "--storage", storage, *IN_PROCESS)
    with plainly as first, driver(tmp_path, other, "--storage", storage, *RAY) as second:
        both = [process.communicate(timeout=2 * WITHIN_S) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), both
    assert "all 2 trials complete" in both[0][0]
    assert "all 4 trials complete" in both[1][0]
    assert not list(storage.rglob("failure.json"))
    assert recorded(storage) == undisturbed(tmp_path, other)
    print(outcomes(storage))
