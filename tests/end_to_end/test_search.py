"""Searches on a real cluster of two workers: killed twice, nothing finished runs twice, nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.studies import TINY, command, environment, write_study, xferlab
from xferlab.records.samples import SampleRecord, best_of, read_attempts, read_samples
from xferlab.records.store import Store
from xferlab.schedule.processes import below, kill
from xferlab.study.load import load

pytestmark = pytest.mark.slow

TRAINING = {**TINY["training"], "max_epochs": 9, "patience": 9, "checkpoint_every_s": 0.05}
SPACE = """\
training.lr: {loguniform: [1.0e-4, 1.0e-1]}
training.batch_size: {choice: [4, 8]}
training.rotation: {choice: [null, {degrees: 10.0, probability: 0.75}]}
"""
FINISHED = ("complete", "stopped", "diverged")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study, a space, and a storage that holds the study's trials."""
    folder = tmp_path_factory.mktemp("search")
    study = write_study(folder, training=TRAINING, arms={"baseline": {}})
    (folder / "space.yaml").write_text(SPACE)
    done = xferlab(folder, "run", study, "--executor", "in-process", "--storage", folder / "storage")
    assert done.returncode == 0, done.stderr
    return folder


def tune(ground: Path, *options: str) -> list[str]:
    words = ["tune", "study.yaml", "--space", "space.yaml", "--storage", "storage", "--workers", "2"]
    return command(*words, "--repeats", "2", *options)


def finish(ground: Path, *options: str) -> str:
    done = subprocess.run(
        tune(ground, *options), env=environment(ground), cwd=ground, capture_output=True, text=True,
        timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def searches(ground: Path) -> set[str]:
    return {path.name for path in ground.glob("storage/tuning/*")}


def records(ground: Path, search: str) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in ground.glob(f"storage/tuning/{search}/samples/*.json")}


def num_attempts(ground: Path, search: str) -> dict[str, int]:
    store = Store.open(ground / "storage")
    return {sample: len(read_attempts(store, search, sample)) for sample in records(ground, search)}


def killed_at(ground: Path, search: set[str], num_finished: int, *options: str) -> str:
    """Starts a search, kills it when so many samples are finished and one in progress is stored."""
    process = subprocess.Popen(
        tune(ground, *options), env=environment(ground), cwd=ground,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    try:
        while time.monotonic() < deadline:
            assert process.poll() is None, "the search ended before it could be killed"
            for own in searches(ground) - search:
                states = list(ground.glob(f"storage/tuning/{own}/open/*/state-*"))
                if len(records(ground, own)) >= num_finished and states:
                    return own
            time.sleep(0.02)
    finally:
        rest = below(process.pid)
        process.kill()
        process.wait()
        kill(rest)
    pytest.fail("too few samples finished in 240 s")


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_a_search_survives_two_kills_and_stops_the_worse_early(ground: Path, search: str) -> None:
    before = searches(ground)
    options = ["--samples", "20", "--search", search, "--asha", "--out", f"{search}.yaml"]
    own, kept = "", {}
    for num_finished in (4, 10):
        own = killed_at(ground, before, num_finished, *options)
        held, tried = records(ground, own), num_attempts(ground, own)
        assert kept.items() <= held.items()
        kept = held
    output = finish(ground, *options)
    found = read_samples(Store.open(ground / "storage"), own)
    assert [one.number for one in found] == list(range(1, 21))
    assert kept.items() <= records(ground, own).items()
    again = num_attempts(ground, own)
    assert {sample: again[sample] for sample in tried} == tried  # what was finished is not touched again
    for one in found:
        outcomes = [a["outcome"] for a in read_attempts(Store.open(ground / "storage"), own, one.sample_id)]
        assert sum(outcome in FINISHED for outcome in outcomes) <= 1
    saved, trained = sum(one.epochs_saved for one in found), sum(one.epochs_trained for one in found)
    assert saved > 0
    resumed = [one for one in found if again[one.sample_id] > 1]
    assert resumed
    assert not list(ground.glob(f"storage/tuning/{own}/open/*"))
    best = best_of(found)
    assert best is not None
    assert f"winner: sample {best.number}," in output
    assert_winner(ground, f"{search}.yaml", best)
    stopped = sum(one.outcome == "stopped" for one in found)
    print(
        f"{search}: 20 samples, 2 kills at {len(tried)} finished, {len(resumed)} resumed; {stopped} stopped "
        f"early, {trained} epochs trained, at most {saved} saved"
    )
    assert finish(ground, *options).count("sample") < output.count("sample")  # nothing is left to do
    assert num_attempts(ground, own) == again


def assert_winner(ground: Path, name: str, best: SampleRecord) -> None:
    """The winner's arm plans the very trials that the sample trained, and says where it comes from."""
    arms: dict[str, Any] = {"baseline": {}, "tuned": {"include": f"{name}#tuned_portable"}}
    study = yaml.safe_load((ground / "study.yaml").read_text())
    path = ground / "with_winner.yaml"
    path.write_text(yaml.safe_dump({**study, "arms": arms}))
    [tuned] = load(path).tuned["tuned"]
    assert (tuned.sample, tuned.num_samples, tuned.loss) == (best.number, 20, best.loss)
    planned = xferlab(ground, "plan", path, "--storage", "storage", "--json")
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    ids = {name: one["trial_id"] for one in plan["trials"] for name in one["names"]}
    expected = [ids[f"tuned/portable/r{n:02d}"] for n in (1, 2)]
    assert [one.trial_id for one in best.repetitions] == expected
    assert plan["arms"]["tuned"]["tuned"][0]["sample"] == best.number


def test_a_random_search_finds_the_same_samples_after_kills(ground: Path) -> None:
    before = searches(ground)
    options = ["--samples", "6", "--no-asha", "--out", "same.yaml"]
    for num_finished in (1, 3):
        own = killed_at(ground, before, num_finished, *options)
    finish(ground, *options)
    killed = records(ground, own)
    os.rename(ground / "storage/tuning" / own, ground / "killed")
    finish(ground, *options)
    assert records(ground, own) == killed
