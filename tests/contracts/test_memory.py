"""A worker's memory does not grow from trial to trial."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.studies import TINY, write_study, xferlab

NUM_TRIALS, GROWTH = 50, 1.05
STUDY = {
    "data": {"general": {"source": "phantom_cxr", "count": 24, "seed": 1, "size_px": 64}},
    "model": {"init_features": 8, "image_size": 64},
    "stages": {"general": {"data": "general", "repetitions": NUM_TRIALS, "evaluate_on": ["general.test"]}},
    "training": {**TINY["training"], "max_epochs": 1, "patience": 1, "batch_size": 8},
    "repetitions": NUM_TRIALS,
    "arms": {"a": {}},
}


@pytest.mark.slow
@pytest.mark.parametrize("executor", [("--workers", "1"), ("--executor", "in-process")])
def test_memory_stays_flat_over_fifty_trials(tmp_path: Path, executor: tuple[str, str]) -> None:
    study, storage = write_study(tmp_path, **STUDY), tmp_path / "results"
    xferlab(tmp_path, "run", study, "--storage", storage, *executor, code=0)
    runs = [json.loads(path.read_text()) for path in storage.glob("trials/*/run.json")]
    runs.sort(key=lambda run: str(run["attempts"][-1]["started"]))
    peaks = [round(1024 * run["memory_peak_gib"]) for run in runs]
    print(f"{executor}: resident peak of each trial, MiB: {peaks}")
    assert len({run["attempts"][-1]["pid"] for run in runs}) == 1
    assert len(peaks) == NUM_TRIALS
    assert max(peaks) <= GROWTH * peaks[1]  # the first trial's libraries are loaded while it runs
