"""Networks at a fixed size, at the images' own size and by tiles; evaluations with foreign objects on the
images, and at the original size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.studies import TINY
from tests.trial.conftest import CPU, STAGES, Bench, Make
from xferlab.data.pixels import Picture
from xferlab.phantoms.foreign_objects import with_objects
from xferlab.records.complete import is_complete
from xferlab.training.structures import at_size
from xferlab.trial.predictor import Predictor

PLAIN, SIDE = "portable.hold_out", 48
NATIVE: dict[str, Any] = {
    "native": {"model.image_size": "native"},
    "tiles": {"model.image_size": "native", "model.tiles": {"size": 16}},
}
general = pytest.mark.parametrize("arm", ["resized", "equal", *NATIVE])
native = pytest.mark.parametrize("arm", NATIVE)


@pytest.fixture(scope="module")
def trials(bench_in: Make, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A study of which the first stage ran: images are stretched to 32 px, or taken as they are."""
    evaluated = [PLAIN, f"{PLAIN}@implant", f"{PLAIN}@original"]
    trials = bench_in(
        tmp_path_factory.mktemp("variants"),
        data={name: {**section, "size_px": SIDE} for name, section in TINY["data"].items()},
        stages={**STAGES, "general": {"data": "general", "repetitions": 1, "evaluate_on": evaluated}},
        arms={"resized": {}, "equal": {"model.image_size": SIDE}, **NATIVE},
        overlay_cases=64,
    )
    return trials.ran(*(f"{arm}/general/r01" for arm in trials.plan.loaded.arms))


def values(cases: pd.DataFrame) -> pd.Series:
    return cases.set_index(["case", "metric"])["value"].astype(float)


@pytest.mark.slow
@general
def test_objects_lie_on_the_images_and_leave_the_masks(trials: Bench, arm: str) -> None:
    (plain_cases, plain), (implant_cases, implant) = (
        trials.measured(f"{arm}/general/r01", variant) for variant in ("", "implant")
    )
    assert list(plain_cases["case"]) == list(implant_cases["case"])
    for before, after in zip(plain, implant, strict=True):
        assert np.array_equal(before.arrays["target"], after.arrays["target"])
        image = before.arrays["image"]
        assert image.shape == ((32, 32) if arm == "resized" else (SIDE, SIDE))
        expected = with_objects(image[None, None], [before.case], ["implant"])[0, 0]
        assert np.array_equal(after.arrays["image"], expected)
        assert not np.array_equal(image, expected)
    assert not values(plain_cases).equals(values(implant_cases))


@general
def test_where_nothing_was_resized_the_original_size_says_the_same(trials: Bench, arm: str) -> None:
    """At native size, it is not even measured twice."""
    (plain, _), (original, _) = (trials.measured(f"{arm}/general/r01", name) for name in ("", "original"))
    differ = not np.allclose(values(plain), values(original), rtol=1e-6, atol=0, equal_nan=True)
    assert differ == (arm == "resized")
    folder = trials.folder(f"{arm}/general/r01")
    assert len(list(folder.glob("evaluations/*/record.json"))) == (2 if arm in NATIVE else 3)


def test_outputs_are_measured_at_the_original_size_against_the_original_mask(trials: Bench) -> None:
    (_, plain), (cases, original) = (
        trials.measured("resized/general/r01", name) for name in ("", "original")
    )
    dice = values(cases)
    for small, large in zip(plain, original, strict=True):
        assert large.arrays["image"].shape == (SIDE, SIDE)
        probability = large.arrays["probability"]
        output = small.arrays["probability"].astype(np.float32)[None] / 255
        (stretched,) = at_size(output, width=SIDE, height=SIDE)
        assert np.abs(stretched - probability / 255).max() < 0.01
        mask, target = probability > 127, large.arrays["target"] == 255
        expected = 2 * (mask & target).sum() / max(mask.sum() + target.sum(), 1)
        assert abs(dice[large.case, "DICE"] - expected) < 0.02


@native
def test_a_chain_runs_to_its_records_at_the_images_own_size(trials: Bench, arm: str) -> None:
    name = f"{arm}/portable/r01"
    trials.run(name)
    assert is_complete(trials.store, trials[name])
    model = trials[name].identity.to_json()["model"]
    tiles = {"tiles": {"size": 16, "overlap": 0.5, "hit": 0.5}} if arm == "tiles" else {}
    assert model == {"name": "unet", "init_features": 2, "in_channels": 3, "image_size": "native", **tiles}
    matrix = np.array(trials.features(name)["decoder1"]["gram_best"]).reshape(6, 6)
    assert np.abs(matrix).max() > 0
    np.testing.assert_allclose(matrix.sum(axis=0), 0, atol=1e-5 * np.abs(matrix).max())


@native
def test_a_predictor_of_a_native_trial_stretches_nothing(trials: Bench, arm: str) -> None:
    predictor = Predictor.of_trial(trials.store, trials[f"{arm}/general/r01"].trial_id, CPU)
    shapes = [(37, 52), (64, 20)]
    images = [np.random.default_rng(n).integers(0, 256, shape, np.uint8) for n, shape in enumerate(shapes)]
    prepared = [predictor.prepared(Picture(image)) for image in images]
    assert np.array_equal(prepared[0][0], images[0])
    predictions = predictor.predictions(prepared)
    assert [prediction.shape for prediction in predictions] == [(1, *shape) for shape in shapes]
