"""Pictures of the cases that an evaluation ranks worst, median and best, as trials store them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.trial.conftest import GENERAL, STAGES, Bench, Make
from xferlab.metrics.extremes import badness, ranked
from xferlab.plan.spec import EvaluationSpec
from xferlab.records import reader, writer
from xferlab.records.complete import complete_trials
from xferlab.records.schema import EvaluationRecord
from xferlab.tasks.pictures import SIDE_PX, TRUTH, panels

HOLD_OUT = "portable.hold_out"


@pytest.fixture(scope="module")
def trials(bench_in: Make, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A trial that is measured on images as they are, with objects on them, and at their own size."""
    evaluated = [HOLD_OUT, f"{HOLD_OUT}@implant", f"{HOLD_OUT}@original"]
    stages = {**STAGES, "general": {"data": "general", "repetitions": 1, "evaluate_on": evaluated}}
    return bench_in(tmp_path_factory.mktemp("pictures"), stages=stages).ran(GENERAL)


def evaluation(trials: Bench, variant: str) -> tuple[EvaluationSpec, EvaluationRecord]:
    asked = next(item for item in trials[GENERAL].evaluations if item.variant == variant)
    record = reader.read_evaluation(trials.store, trials[GENERAL].trial_id, asked.evaluation_id)
    assert record is not None
    return asked, record


@pytest.mark.parametrize("variant", ["", "original"])
def test_they_are_of_the_worst_median_and_best_by_dice(trials: Bench, variant: str) -> None:
    _, record = evaluation(trials, variant)
    cases = reader.read_cases(trials.store, record).to_pandas()
    dice = cases[cases["metric"] == "DICE"]
    rows = ranked(badness(dice["value"], "higher"), list(dice["pathology"]))
    pictures = reader.read_pictures(trials.store, record)
    assert list(pictures) == [dice["case"].iloc[row] for row in rows]
    for picture in pictures.values():
        with Image.open(io.BytesIO(picture)) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (2 * SIDE_PX, SIDE_PX))
        assert len(picture) < 60_000


def test_there_are_none_of_images_with_objects(trials: Bench) -> None:
    _, record = evaluation(trials, "implant")
    assert set(record.tables) == {"cases", "outputs"}
    assert reader.read_pictures(trials.store, record) == {}


def test_without_overlays_there_are_none(bench_in: Make, tmp_path: Any) -> None:
    trials = bench_in(tmp_path, stages=STAGES, overlay_cases=0).ran(GENERAL)
    _, record = evaluation(trials, "")
    assert set(record.tables) == {"cases", "outputs"}


def test_lost_pictures_are_drawn_again_and_are_the_same(trials: Bench) -> None:
    store, spec = trials.store, trials[GENERAL]
    _, record = evaluation(trials, "")
    name = record.files.table("pictures")
    before = store.read(name)
    assert set(complete_trials(store, "tiny", [spec])) == {spec.trial_id}
    store.delete(name)
    for _ in range(2):
        assert complete_trials(store, "tiny", [spec]) == {}
    trials.run(GENERAL)
    assert store.read(name) == before
    assert set(complete_trials(store, "tiny", [spec])) == {spec.trial_id}


def test_what_an_earlier_version_measured_without_them_stays_complete(trials: Bench) -> None:
    store, spec = trials.store, trials[GENERAL]
    _, record = evaluation(trials, "")
    kept = {name: store.read(record.files.table(name)) or b"" for name in ("cases", "outputs")}
    store.delete(record.files.table("pictures"))
    writer.write_measurement(store, record, kept)
    assert set(complete_trials(store, "tiny", [spec])) == {spec.trial_id}
    assert reader.read_pictures(store, evaluation(trials, "")[1]) == {}


def test_the_reference_is_yellow_and_the_output_filled() -> None:
    image = np.full((SIDE_PX, SIDE_PX), 100, np.uint8)
    target, probability = np.zeros_like(image), np.zeros_like(image)
    target[50:150, 50:150], probability[100:200, 100:200] = 255, 255
    target[150:170, 50:150] = 127  # ignored
    plain, drawn = panels({"image": image, "target": target, "probability": probability})
    assert np.array_equal(plain, np.repeat(image[..., None], 3, axis=-1))
    assert np.array_equal(drawn[100, 50], TRUTH)
    assert not np.array_equal(drawn[180, 180], plain[180, 180])
    assert np.array_equal(drawn[70, 70], plain[70, 70])
    assert np.array_equal(drawn[165, 70], plain[165, 70])
