"""Trials whose network takes images at the size that they have, whole or as tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.studies import TINY, recorded
from tests.trial.conftest import STAGES, Bench, Make
from xferlab.records import reader
from xferlab.records.complete import is_complete
from xferlab.trial.predictor import Predictor

pytestmark = pytest.mark.component

SIDE = 40
ARMS: dict[str, Any] = {
    "native": {"model.image_size": "native"},
    "tiles": {"model.image_size": "native", "model.tiles": {"size": 16}},
}
DATA = {name: {**section, "size_px": SIDE} for name, section in TINY["data"].items()}


def study(bench: Make, **changes: Any) -> Bench:
    return bench(arms=ARMS, data=DATA, **changes)


@pytest.mark.parametrize("arm", ARMS)
def test_a_chain_runs_to_its_records_at_the_images_own_size(bench: Make, arm: str, tmp_path: Path) -> None:
    trials = study(bench)
    for stage in STAGES:
        trials.run(f"{arm}/{stage}/r01")
        assert is_complete(trials.store, trials[f"{arm}/{stage}/r01"])
    _, outputs = trials.measured(f"{arm}/portable/r01")
    assert {case.arrays["image"].shape for case in outputs} == {(SIDE, SIDE)}
    run = reader.read_run(trials.store, trials[f"{arm}/portable/r01"].trial_id)
    assert run["network_ms_per_image"]["mean"] > 0
    again = study(bench, storage="again")
    again.run(f"{arm}/general/r01")
    assert recorded(tmp_path / "again").items() <= recorded(tmp_path / "results").items()


def test_native_trials_are_trials_of_their_own(bench: Make) -> None:
    trials = study(bench)
    assert len({trials[f"{arm}/general/r01"].trial_id for arm in ARMS}) == 2
    assert trials["native/general/r01"].identity.to_json()["model"] == {
        "name": "unet", "init_features": 2, "in_channels": 3, "image_size": "native",
    }  # fmt: skip


@pytest.mark.parametrize("arm", ARMS)
def test_a_predictor_of_a_native_trial_stretches_nothing(bench: Make, arm: str) -> None:
    trials = study(bench)
    trials.run(f"{arm}/general/r01")
    trial_id = trials[f"{arm}/general/r01"].trial_id
    predictor = Predictor.of_trial(trials.store, trial_id, torch.device("cpu"))
    shapes = [(37, 52), (64, 20)]
    images = [np.random.default_rng(n).integers(0, 256, shape, np.uint8) for n, shape in enumerate(shapes)]
    prepared = [predictor.prepared(image) for image in images]
    assert np.array_equal(prepared[0][0], images[0])
    together = predictor.predictions(prepared)
    assert [prediction.shape for prediction in together] == shapes
    for image, prediction in zip(prepared, together, strict=True):
        assert np.array_equal(predictor.predictions([image])[0], prediction)
