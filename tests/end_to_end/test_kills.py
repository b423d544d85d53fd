"""SIGKILL anywhere, run again: weights, cases and records equal an undisturbed run's, byte for byte."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.end_to_end.processes import command_of, start, until_gone, until_training
from tests.studies import attempts, recorded, undisturbed, write_study, xferlab
from tests.takes import takes
from tests.tasks.labelled import added
from xferlab.schedule.watch import below

pytestmark = pytest.mark.slow

SEED = 20211
WORKERS_WITHIN_S, ALL_WITHIN_S = 30.0, 180.0
"""After their driver's death; Ray's agents, which hold nothing, look for the head for a minute first."""


def killed_until_complete(
    folder: Path, study: Path, storage: Path, *, options: list[str], waits: random.Random, whole_s: float
) -> int:
    """Starts the study again and again and kills it, at a random moment of `whole_s`; returns the kills."""
    for kills in range(60):
        # The first three waits together are shorter than the whole: none of them can see its end.
        wait_s = waits.uniform(0.1, 0.4 if kills >= 3 else 0.25) * whole_s * (1 + kills / 20)
        process = start(folder, "run", study, "--storage", storage, *options, output=subprocess.DEVNULL)
        try:
            assert process.wait(timeout=wait_s) == 0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        else:
            return kills
    pytest.fail("the study did not get done between 60 kills")


def files_after_kills(folder: Path, study: Path) -> set[str]:
    """Runs a study undisturbed, and killed until it ends with the same bytes; returns its files."""
    start_s = time.monotonic()
    whole = undisturbed(folder, study)
    kills = killed_until_complete(
        folder, study, folder / "killed",
        options=["--executor", "in-process"], waits=random.Random(SEED), whole_s=time.monotonic() - start_s,
    )  # fmt: skip
    assert kills >= 2
    assert recorded(folder / "killed") == whole
    return set(whole)


def test_in_process_run_survives_kills_at_random_moments(tmp_path: Path) -> None:
    study = write_study(tmp_path, training=LONGER, retries=20)
    start_s = time.monotonic()
    whole = undisturbed(tmp_path, study)
    whole_s = time.monotonic() - start_s
    kills = killed_until_complete(
        tmp_path, study, tmp_path / "killed",
        options=["--executor", "in-process"], waits=random.Random(SEED), whole_s=whole_s,
    )  # fmt: skip
    assert kills >= 3
    assert recorded(tmp_path / "killed") == whole
    outcomes = [[one["outcome"] for one in tries] for tries in attempts(tmp_path / "killed").values()]
    assert all(tries.count("complete") == 1 and tries[-1] == "complete" for tries in outcomes)
    assert any("killed" in tries for tries in outcomes)
    print(f"seed {SEED}: {kills} kills, {sum(map(len, outcomes))} attempts at {len(outcomes)} trials")


def test_a_run_with_predictions_of_other_stages_survives_kills(tmp_path: Path) -> None:
    with added():
        study = write_study(tmp_path, **takes(out_of_fold=2, repetitions=1, retries=20))
        files = files_after_kills(tmp_path, study)
    assert any(name.startswith("predictions/") for name in files)


def test_ray_run_survives_killed_workers_and_drivers(tmp_path: Path) -> None:
    study = write_study(tmp_path, training=LONGER, retries=20)
    whole = undisturbed(tmp_path, study)
    waits, storage, kills = random.Random(SEED), tmp_path / "killed", 0
    words = ("run", study, "--storage", storage, "--workers", "2")
    # First the driver dies, then (in the second run) workers, with the driver going on.
    process = start(tmp_path, *words, output=subprocess.DEVNULL)
    until_training(storage, process)
    time.sleep(waits.uniform(0.0, 1.0))
    children = {pid: command_of(pid) for pid in below(process.pid)}
    process.send_signal(signal.SIGKILL)
    process.wait()
    workers = [pid for pid, name in children.items() if is_worker(name)]
    assert workers
    workers_s = until_gone(workers, within_s=WORKERS_WITHIN_S)
    process = start(tmp_path, *words, output=subprocess.DEVNULL)
    until_training(storage, process)
    deadline = time.monotonic() + 120
    while process.poll() is None and kills < 3 and time.monotonic() < deadline:
        victims = [pid for pid in below(process.pid) if is_worker(command_of(pid))]
        if victims:
            os.kill(waits.choice(victims), signal.SIGKILL)
            kills += 1
        time.sleep(waits.uniform(1.0, 3.0))
    assert process.wait(timeout=300) == 0
    assert kills >= 1
    until_gone(children, within_s=ALL_WITHIN_S)
    assert recorded(storage) == whole
    print(f"seed {SEED}: 1 driver (its workers ended {workers_s:.1f} s after it) and {kills} workers killed")


@pytest.mark.parametrize("options", [["--executor", "in-process"], ["--workers", "2"]], ids=["one", "ray"])
def test_a_longer_run_that_continues_a_shorter_one_survives_kills(tmp_path: Path, options: list[str]) -> None:
    """Parents continue; their children start from other weights then, and train from scratch."""
    storage = tmp_path / "killed"
    short = write_study(tmp_path, training={**LONGER, "max_epochs": 30, "patience": 30}, keep_states=True)
    assert xferlab(tmp_path, "run", short, "--storage", storage, *options).returncode == 0
    finished = attempts(storage)
    study = write_study(tmp_path, training=LONGER, retries=20)
    start_s = time.monotonic()
    whole = undisturbed(tmp_path, study)
    whole_s = time.monotonic() - start_s
    kills = killed_until_complete(
        tmp_path, study, storage, options=options, waits=random.Random(SEED), whole_s=whole_s
    )
    assert kills >= 2
    assert {name: digest for name, digest in recorded(storage).items() if name in whole} == whole
    tries = {trial_id: each for trial_id, each in attempts(storage).items() if trial_id not in finished}
    continued = [each for each in tries.values() if any("continues" in one for one in each)]
    assert len(continued) == 2
    assert all(one.get("first_epoch", 31) >= 31 for each in continued for one in each)
    assert {trial_id: attempts(storage)[trial_id] for trial_id in finished} == finished
    print(f"seed {SEED}: {kills} kills, {sum(map(len, tries.values()))} attempts at {len(tries)} trials")


LONGER = {
    "batch_size": 4, "max_epochs": 60, "patience": 60, "device": "cpu", "precision": "float32",
    "checkpoint_every_s": 0.05,
}  # fmt: skip


def is_worker(command_line: str) -> bool:
    """Whether a process is a Ray worker that runs a trial (Ray names it after Tune's trainable)."""
    return command_line.startswith("ray::ImplicitFunc")
