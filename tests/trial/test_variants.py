"""Evaluations with foreign objects and at the original size: what they measure; they train nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.studies import TINY
from tests.trial.conftest import Bench, Make
from xferlab.phantoms.foreign_objects import with_objects
from xferlab.records import reader
from xferlab.tasks.segmentation.resized import at_size

pytestmark = pytest.mark.component

NAME = "a/general/r01"
PLAIN = "portable.hold_out"
SIDE = 40
LARGE = {name: {**section, "size_px": SIDE} for name, section in TINY["data"].items()}
NATIVE = {
    "a": {"model.image_size": "native"},
    "b": {"model.image_size": "native", "model.tiles": {"size": 16}},
}


def stages(*variants: str) -> dict[str, Any]:
    items = [PLAIN, *(f"{PLAIN}@{one}" for one in variants)]
    return {"general": {"data": "general", "repetitions": 1, "evaluate_on": items}}


def stored(trials: Bench, variant: str, name: str = NAME) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cases and outputs of an evaluation."""
    spec = trials[name]
    (one,) = (e for e in spec.evaluations if e.variant == variant)
    record = reader.read_evaluation(trials.session.store, spec.trial_id, one.evaluation_id)
    assert record is not None
    tables = (
        reader.read_cases(trials.session.store, record),
        reader.read_outputs(trials.session.store, record),
    )
    return tables[0].to_pandas(), pd.DataFrame({"case": case.case, **case.arrays} for case in tables[1])


def pixels(row: Any, column: str) -> Any:
    return row[column]


def values(cases: pd.DataFrame) -> pd.Series:
    return cases.set_index(["case", "metric"])["value"].astype(float)


def test_an_evaluation_with_objects_trains_nothing(bench: Make) -> None:
    first = bench(stages=stages())
    first.run(NAME)
    weights = first.folder(NAME) / "checkpoint/best.safetensors"
    before = weights.stat().st_mtime_ns
    more = bench(stages=stages("implant"))
    epochs: list[int] = []
    more.run(NAME, on_epoch=lambda result, best_loss: epochs.append(result.epoch))
    assert epochs == []
    assert weights.stat().st_mtime_ns == before
    assert len(list(more.folder(NAME).glob("evaluations/*/record.json"))) == 2


@pytest.mark.parametrize("arms", [{"a": {}}, NATIVE], ids=["resized", "native"])
def test_objects_lie_on_the_images_and_leave_the_masks(bench: Make, arms: dict[str, Any]) -> None:
    trials = bench(stages=stages("implant"), arms=arms)
    for arm in arms:
        name = f"{arm}/general/r01"
        trials.run(name)
        (plain_cases, plain), (laid_cases, laid) = stored(trials, "", name), stored(trials, "implant", name)
        assert list(plain_cases["case"]) == list(laid_cases["case"])
        assert all(map(np.array_equal, plain["target"], laid["target"]))
        for (_, one), (_, other) in zip(plain.iterrows(), laid.iterrows(), strict=True):
            expected = with_objects(pixels(one, "image")[None, None], [one["case"]], ["implant"])[0, 0]
            assert np.array_equal(pixels(other, "image"), expected)
            assert not np.array_equal(pixels(one, "image"), expected)
        assert not values(plain_cases).equals(values(laid_cases))


def test_where_nothing_was_resized_the_original_size_says_the_same(bench: Make) -> None:
    trials = bench(stages=stages("original"))
    trials.run(NAME)
    (plain, _), (original, _) = stored(trials, ""), stored(trials, "original")
    pd.testing.assert_series_equal(values(plain), values(original), rtol=1e-6)


def test_outputs_are_measured_at_the_original_size_against_the_original_mask(bench: Make) -> None:
    trials = bench(stages=stages("original"), data=LARGE, overlay_cases=64)
    trials.run(NAME)
    (_, plain), (cases, original) = stored(trials, ""), stored(trials, "original")
    assert {image.shape for image in original["image"]} == {(SIDE, SIDE)}
    dice = values(cases)
    for (_, small), (_, large) in zip(plain.iterrows(), original.iterrows(), strict=True):
        probability = pixels(small, "probability").astype(np.float32) / 255
        stretched = at_size(probability, width=SIDE, height=SIDE)
        assert np.abs(stretched - pixels(large, "probability") / 255).max() < 0.01
        found, target = pixels(large, "probability") > 127, pixels(large, "target") == 255
        expected = 2 * (found & target).sum() / max((found | target).sum() + (found & target).sum(), 1)
        assert abs(dice[large["case"], "DICE"] - expected) < 0.02


def test_native_trials_are_measured_once_for_both(bench: Make) -> None:
    trials = bench(stages=stages("original"), data=LARGE, arms=NATIVE)
    trials.run(NAME)
    assert len(list(trials.folder(NAME).glob("evaluations/*/record.json"))) == 1
    assert stored(trials, "")[0].equals(stored(trials, "original")[0])
