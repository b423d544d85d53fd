"""Evaluations with foreign objects and at the original size: what they measure; they train nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.studies import TINY
from tests.trial.conftest import GENERAL, Make
from xferlab.phantoms.foreign_objects import with_objects
from xferlab.tasks.segmentation.resized import at_size

pytestmark = pytest.mark.component

PLAIN = "portable.hold_out"
SIDE = 40
LARGE = {name: {**section, "size_px": SIDE} for name, section in TINY["data"].items()}
NATIVE = {
    "a": {"model.image_size": "native"},
    "b": {"model.image_size": "native", "model.tiles": {"size": 16}},
}


def stages(*variants: str) -> dict[str, Any]:
    items = [PLAIN, *(f"{PLAIN}@{variant}" for variant in variants)]
    return {"general": {"data": "general", "repetitions": 1, "evaluate_on": items}}


def values(cases: pd.DataFrame) -> pd.Series:
    return cases.set_index(["case", "metric"])["value"].astype(float)


@pytest.mark.parametrize("arms", [{"a": {}}, NATIVE], ids=["resized", "native"])
def test_objects_lie_on_the_images_and_leave_the_masks(bench: Make, arms: dict[str, Any]) -> None:
    trials = bench(stages=stages("implant"), arms=arms)
    for arm in arms:
        name = f"{arm}/general/r01"
        trials.run(name)
        (plain_cases, plain), (implant_cases, implant) = (
            trials.measured(name, variant) for variant in ("", "implant")
        )
        assert list(plain_cases["case"]) == list(implant_cases["case"])
        for before, after in zip(plain, implant, strict=True):
            assert np.array_equal(before.arrays["target"], after.arrays["target"])
            image = before.arrays["image"]
            expected = with_objects(image[None, None], [before.case], ["implant"])[0, 0]
            assert np.array_equal(after.arrays["image"], expected)
            assert not np.array_equal(image, expected)
        assert not values(plain_cases).equals(values(implant_cases))


def test_where_nothing_was_resized_the_original_size_says_the_same(bench: Make) -> None:
    trials = bench(stages=stages("original"))
    trials.run(GENERAL)
    (plain, _), (original, _) = trials.measured(GENERAL), trials.measured(GENERAL, "original")
    pd.testing.assert_series_equal(values(plain), values(original), rtol=1e-6)


def test_outputs_are_measured_at_the_original_size_against_the_original_mask(bench: Make) -> None:
    trials = bench(stages=stages("original"), data=LARGE, overlay_cases=64)
    trials.run(GENERAL)
    (_, plain), (cases, original) = trials.measured(GENERAL), trials.measured(GENERAL, "original")
    assert {output.arrays["image"].shape for output in original} == {(SIDE, SIDE)}
    dice = values(cases)
    for small, large in zip(plain, original, strict=True):
        probability = large.arrays["probability"]
        stretched = at_size(small.arrays["probability"].astype(np.float32) / 255, width=SIDE, height=SIDE)
        assert np.abs(stretched - probability / 255).max() < 0.01
        mask, target = probability > 127, large.arrays["target"] == 255
        expected = 2 * (mask & target).sum() / max(mask.sum() + target.sum(), 1)
        assert abs(dice[large.case, "DICE"] - expected) < 0.02
