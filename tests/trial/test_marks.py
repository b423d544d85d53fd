"""Sets that mark less than a trial learns: measured by what they mark, as where everything is marked."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.trial.conftest import Bench, Make
from xferlab.data.sources.registry import open_source, read_section
from xferlab.metrics.measuring import METRICS, metrics_of
from xferlab.records import reader
from xferlab.records.schema import CaseOutputs

NAMES = ["heart", "left_lung", "right_lung"]
DRAWN = {"source": "phantom_cxr", "count": 6, "seed": 2, "size_px": 48, "hold_out": 1.0, "shareable": True}
LUNGS = {"labels": {"lungs": [255]}}
SOME = {"structures": {"heart": "mask_heart", "lungs": "mask"}}
SETS = ("drawn", "union", "some", "union@original", "drawn@original", "union@implant")
WITHOUT_HEART = 2
"""Images of the set `some` whose cell of the heart's mask is empty."""


def write_images(folder: Path) -> Path:
    """Writes the images of `DRAWN` with masks of the heart and of both lungs as one."""
    source = open_source("drawn", read_section({**DRAWN, "read": NAMES}), memo_dir=folder / "memo")
    rows = []
    for number, case in enumerate(source.cases()):
        decoded = source.decode(case)
        heart, left, right = decoded.targets
        planes = {"image": decoded.image, "mask": np.maximum(left, right), "mask_heart": heart}
        for kind, pixels in planes.items():
            Image.fromarray(pixels).save(folder / f"{number}_{kind}.png")
        names = {kind: f"{number}_{kind}.png" for kind in planes}
        names |= {"mask_heart": ""} if number < WITHOUT_HEART else {}
        rows.append({**names, "patient_id": case.name, "pathology": case.pathology})
    with (folder / "metadata.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return folder


@pytest.fixture(scope="module", params=["overlapping", "exclusive"])
def trials(request: pytest.FixtureRequest, bench_in: Make, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A stage of three structures, of two where no pixel is of several, measured on the same images."""
    folder = tmp_path_factory.mktemp("marks")
    images = {"source": "manifest", "root": str(write_images(folder)), "hold_out": 1.0, "shareable": True}
    own = {"source": "phantom_cxr", "count": 12, "seed": 1, "size_px": 48}
    on = [name.replace("@", ".hold_out@") if "@" in name else f"{name}.hold_out" for name in SETS]
    trials = bench_in(
        folder,
        data={"own": own, "drawn": DRAWN, "union": {**images, **LUNGS}, "some": {**images, **SOME}},
        stages={
            "parts": {
                "data": "own",
                "structures": NAMES if request.param == "overlapping" else NAMES[1:],
                "evaluate_on": on,
                "model": {"outputs": request.param},
            }
        },
        repetitions=1,
        features=None,
    )
    return trials.ran("a/parts/r01")


Measured = tuple[pd.DataFrame, list[CaseOutputs]]


def measured(trials: Bench) -> list[Measured]:
    """The values of each set, a row a patient and a column a metric, and what is stored of it to look at."""
    spec, sets = trials["a/parts/r01"], list[Measured]()
    for evaluation in spec.evaluations:
        record = reader.read_evaluation(trials.store, spec.trial_id, evaluation.evaluation_id)
        assert record is not None
        texts = dict.fromkeys(("patient", "metric"), str)
        cases = reader.read_cases(trials.store, record).to_pandas().astype(texts)
        wide = cases.pivot(index="patient", columns="metric", values="value")
        sets.append((wide, reader.read_outputs(trials.store, record)))
    return sets


@pytest.fixture(scope="module")
def sets(trials: Bench) -> Mapping[str, Measured]:
    """What `measured` returns, by the names of the sets."""
    return dict(zip(SETS, measured(trials), strict=True))


def test_both_lungs_as_one_are_measured_alike_wherever_they_are_marked(
    trials: Bench, sets: Mapping[str, Measured]
) -> None:
    learnt = trials["a/parts/r01"].targets
    for variant in ("", "@original"):
        whole, union = sets[f"drawn{variant}"][0], sets[f"union{variant}"][0]
        assert set(whole) == set(union) == {metric.name for metric in metrics_of(learnt)}
        for name in (metric.name for metric in METRICS):
            of_union = whole[f"{name}_lungs"].to_numpy()
            np.testing.assert_array_equal(union[f"{name}_lungs"].loc[whole.index], of_union)
            np.testing.assert_array_equal(union[name].loc[whole.index], of_union)
            assert union[[f"{name}_{one}" for one in (*learnt, "lung")]].isna().all(axis=None)
        assert whole["DICE_lungs"].notna().all()
        sides = whole[["DICE_left_lung", "DICE_right_lung"]].mean(axis=1)
        np.testing.assert_allclose(whole["DICE_lung"], sides)
        np.testing.assert_allclose(whole["DICE"], whole[[f"DICE_{name}" for name in learnt]].mean(axis=1))
    assert sets["union@implant"][0]["DICE_lungs"].notna().all()


def test_a_mean_is_over_what_the_masks_of_an_image_mark(trials: Bench, sets: Mapping[str, Measured]) -> None:
    learnt = trials["a/parts/r01"].targets
    whole, some = (sets[name][0] for name in ("drawn", "some"))
    of_lungs = whole["DICE_lungs"].loc[some.index]
    np.testing.assert_array_equal(some["DICE_lungs"], of_lungs)
    if "heart" not in learnt:
        np.testing.assert_array_equal(some["DICE"], of_lungs)
        return
    assert some["DICE_heart"].isna().sum() == WITHOUT_HEART
    known = some["DICE_heart"].dropna()
    np.testing.assert_array_equal(known, whole["DICE_heart"].loc[known.index])
    expected = some[["DICE_heart", "DICE_lungs"]].mean(axis=1)  # of one where the other is not known
    np.testing.assert_allclose(some["DICE"], expected)


def test_what_is_stored_are_all_outputs_and_the_targets_that_there_are(
    trials: Bench, sets: Mapping[str, Measured]
) -> None:
    learnt = trials["a/parts/r01"].targets
    masks = [f"mask_{name}" for name in learnt]
    for name, (_, outputs) in sets.items():
        targets = {
            "union": ["target_lungs"],
            "some": [f"target_{one}" for one in ("heart", "lungs") if one in (*learnt, "lungs")],
            "drawn": [f"target_{one}" for one in learnt],
        }[name.partition("@")[0]]
        assert outputs
        for case in outputs:
            assert sorted(case.arrays) == sorted(["image", *masks, *targets])


def test_heart_and_lungs_of_jsrt_are_measured_on_montgomery(bench: Make, real_data: Path) -> None:
    few = [f"JPCLN{number:03d}" for number in range(1, 13)], ["MCUCXR_0001_0", "MCUCXR_0003_0"]
    jsrt, montgomery = (
        {"source": "manifest", "root": str(real_data / name), "where": {"image_id": images}}
        for name, images in zip(("jsrt-scr-512", "montgomery-512"), few, strict=True)
    )
    jsrt["labels"] = {"heart": [85], "left_lung": [170], "right_lung": [255]}
    stage = {"data": "jsrt", "structures": NAMES, "evaluate_on": ["jsrt.test", "montgomery.hold_out"]}
    trials = bench(
        data={"jsrt": jsrt, "montgomery": {**montgomery, **LUNGS, "hold_out": 1.0}},
        stages={"parts": stage},
        repetitions=1,
        features=None,
    )
    (here, _), (there, _) = measured(trials.ran("a/parts/r01"))
    assert here[[f"JACC_{name}" for name in (*NAMES, "lung", "lungs")]].notna().all(axis=None)
    assert there["JACC_lungs"].between(0, 1).tolist() == [True, True]
    np.testing.assert_array_equal(there["JACC"], there["JACC_lungs"])
    assert there[[f"JACC_{name}" for name in (*NAMES, "lung")]].isna().all(axis=None)
