"""Searches on a real cluster of two workers: killed twice, nothing finished runs twice, nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.processes import eventually, start
from tests.studies import TINY, write_study, xferlab
from xferlab.records import reader
from xferlab.records.samples import SampleRecord, best_of, read_samples, search_store
from xferlab.records.store import Store
from xferlab.schedule.watch import below, kill
from xferlab.study.load import load

pytestmark = pytest.mark.slow

TUNE = (
    "tune", "study.yaml", "--space", "space.yaml", "--storage", "storage", "--workers", "2", "--repeats", "2",
)  # fmt: skip
TRAINING = {**TINY["training"], "max_epochs": 9, "patience": 9, "checkpoint_every_s": 0.05}
SPACE = """\
training.lr: {loguniform: [1.0e-4, 1.0e-1]}
training.batch_size: {choice: [4, 8]}
training.rotation: {choice: [null, {degrees: 10.0, probability: 0.75}]}
"""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study, a space, and a storage that holds the study's trials."""
    folder = tmp_path_factory.mktemp("search")
    study = write_study(folder, training=TRAINING, arms={"baseline": {}})
    (folder / "space.yaml").write_text(SPACE)
    xferlab(folder, "run", study, "--executor", "in-process", "--storage", folder / "storage", code=0)
    return folder


def finish(ground: Path, *options: str) -> str:
    done = xferlab(ground, *TUNE, *options, timeout_s=400, code=0)
    return done.stdout


def searches(ground: Path) -> set[str]:
    return {path.name for path in ground.glob("storage/tuning/*")}


def records(ground: Path, search: str) -> dict[str, bytes]:
    paths = ground.glob(f"storage/tuning/{search}/trials/*/record.json")
    return {path.parent.name: path.read_bytes() for path in paths}


def outcomes(ground: Path, search: str) -> dict[str, list[str]]:
    """How the attempts at each finished sample ended."""
    store = search_store(Store.open(ground / "storage"), search)
    runs = {sample: reader.read_run(store, sample)["attempts"] for sample in records(ground, search)}
    return {sample: [attempt["outcome"] for attempt in attempts] for sample, attempts in runs.items()}


def killed_at(ground: Path, search: set[str], num_finished: int, *options: str) -> str:
    """Starts a search, kills it when so many samples are finished and one in progress is stored."""
    process = start(ground, *TUNE, *options, output=subprocess.DEVNULL)

    def far_enough() -> list[str]:
        return [
            started
            for started in searches(ground) - search
            if len(records(ground, started)) >= num_finished
            and list(ground.glob(f"storage/tuning/{started}/trials/*/checkpoint/state-*"))
        ]

    try:
        eventually(far_enough, process, within_s=240)
        (started,) = searches(ground) - search
    finally:
        rest = below(process.pid)
        process.kill()
        process.wait()
        kill(rest)
    return started


@pytest.mark.parametrize("sampler", ["random", "optuna"])
def test_a_search_survives_two_kills_and_stops_the_worse_early(ground: Path, sampler: str) -> None:
    before = searches(ground)
    options = ["--samples", "20", "--search", sampler, "--asha", "--out", f"{sampler}.yaml"]
    search, kept = "", {}
    for num_finished in (4, 10):
        search = killed_at(ground, before, num_finished, *options)
        assert kept.items() <= records(ground, search).items()
        kept, tried = records(ground, search), outcomes(ground, search)
    output = finish(ground, *options)
    found = read_samples(Store.open(ground / "storage"), search)
    assert [record.number for record in found] == list(range(1, 21))
    assert kept.items() <= records(ground, search).items()
    again = outcomes(ground, search)
    assert {sample: len(again[sample]) for sample in tried} == {
        sample: len(tried[sample]) for sample in tried
    }  # what was finished is not touched again
    assert all(ended.count("complete") <= 1 for ended in again.values())
    assert any(len(ended) > 1 for ended in again.values())
    assert sum(record.epochs_saved for record in found) > 0
    assert not list(ground.glob(f"storage/tuning/{search}/trials/*/checkpoint/*"))
    best = best_of(found)
    assert best is not None
    assert f"winner: sample {best.number}," in output
    assert "best samples by validation loss (lower is better), mean over repetitions:" in output
    assert_winner(ground, f"{sampler}.yaml", best)
    stopped = sum(record.outcome == "stopped" for record in found)
    trained = sum(record.epochs_trained for record in found)
    print(f"{sampler}: {len(tried)} finished at the second kill, {stopped} stopped, {trained} epochs trained")
    assert finish(ground, *options).count("sample") < output.count("sample")  # nothing is left to do
    assert outcomes(ground, search) == again


def assert_winner(ground: Path, name: str, best: SampleRecord) -> None:
    """The winner's arm plans the very trials that the sample trained, and says where it comes from."""
    arms: dict[str, Any] = {"baseline": {}, "tuned": {"include": f"{name}#tuned_portable"}}
    study = yaml.safe_load((ground / "study.yaml").read_text())
    path = ground / "with_winner.yaml"
    path.write_text(yaml.safe_dump({**study, "arms": arms}))
    [tuned] = load(path).tuned["tuned"]
    assert (tuned.sample, tuned.num_samples, tuned.score) == (best.number, 20, best.score)
    planned = xferlab(ground, "plan", path, "--storage", "storage", "--json", code=0)
    plan = json.loads(planned.stdout)
    ids = {name: one["trial_id"] for one in plan["trials"] for name in one["names"]}
    expected = [ids[f"tuned/portable/r{n:02d}"] for n in (1, 2)]
    assert [one.trial_id for one in best.repetitions] == expected
    assert plan["arms"]["tuned"]["tuned"][0]["sample"] == best.number


def test_a_random_search_finds_the_same_samples_after_kills_and_a_signal(ground: Path) -> None:
    before = searches(ground)
    options = ["--samples", "6", "--no-asha", "--out", "same.yaml"]
    search = killed_at(ground, before, 1, *options)
    interrupted = start(ground, *TUNE, *options)
    assert interrupted.stdout is not None
    for line in interrupted.stdout:
        if line.startswith("["):
            interrupted.send_signal(signal.SIGINT)
            break
    output, _ = interrupted.communicate(timeout=120)
    assert interrupted.returncode == 130
    left = 6 - len(records(ground, search))
    assert output.splitlines()[-1] == (
        f"interrupted: {left} of 6 samples are left; the same command continues"
    )
    assert left > 0
    finish(ground, *options)
    disturbed = records(ground, search)
    os.rename(ground / "storage/tuning" / search, ground / "disturbed")
    finish(ground, *options)
    assert records(ground, search) == disturbed
