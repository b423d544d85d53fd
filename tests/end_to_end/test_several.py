"""Several structures from the study file to predictions and report: at one size, natively, and by tiles."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Command
from tests.data.test_dicom import write
from tests.studies import noise, write_study
from xferlab.analysis import load_study
from xferlab.cli.main import main
from xferlab.data.dicom import read_dicom
from xferlab.metrics.measuring import METRICS

pytestmark = pytest.mark.component
NAMES = ["left_lung", "right_lung", "heart"]
ON = ["general.hold_out", "general.hold_out@implant", "general.hold_out@original"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage of one structure and one of three that starts from it, in three arms; all of it has run."""
    folder = tmp_path_factory.mktemp("several")
    native = {"model.image_size": "native", "training.batch_size": 4}
    path = write_study(
        folder,
        repetitions=1,
        data={"general": {"source": "phantom_cxr", "count": 18, "seed": 1, "size_px": 48, "hold_out": 0.3}},
        stages={
            "whole": {"data": "general", "repetitions": 1, "evaluate_on": ["general.hold_out"]},
            "parts": {
                "data": "general",
                "structures": NAMES,
                "starts_from": "whole",
                "adapt": {"head": "new"},
                "evaluate_on": ON,
            },
        },
        features={"on": "general.hold_out", "cases": 4},
        arms={
            "overlapping": {},
            "exclusive": {"model.outputs": "exclusive", "stages.parts.structures": NAMES[:2]},
            "tiles": {**native, "model.tiles": {"size": 32}},
        },
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XFERLAB_CACHE", str(folder / "cache"))
        patched.chdir(folder)
        assert main(["run", str(path), "--executor", "in-process", "--storage", "results"]) == 0
    return path


def test_each_structure_is_measured_in_every_variant(study: Path) -> None:
    cases = load_study(study.parent / "results", "tiny").cases
    parts = cases[cases["stage"] == "parts"]
    single = {f"{metric.name}_{name}" for metric in METRICS for name in (*NAMES, "lung", "lungs")}
    assert set(parts.loc[parts["arm"] != "exclusive", "metric"]) == {m.name for m in METRICS} | single
    assert "DICE_heart" not in set(parts.loc[parts["arm"] == "exclusive", "metric"])
    assert set(cases.loc[cases["stage"] == "whole", "metric"]) == {metric.name for metric in METRICS}
    assert set(parts["part"]) == {item.partition(".")[2] for item in ON}
    keys = ["arm", "part", "case"]
    dice = parts[parts["arm"] != "exclusive"].pivot(index=keys, columns="metric", values="value")
    np.testing.assert_allclose(dice["DICE"], dice[[f"DICE_{name}" for name in NAMES]].mean(axis=1))


@pytest.mark.parametrize("arm", ["overlapping", "exclusive", "tiles"])
def test_predict_writes_a_mask_for_each_structure(
    study: Path, tmp_path: Path, arm: str, command: Command
) -> None:
    Image.fromarray(noise(3, 50)).save(tmp_path / "a.png")
    names = NAMES[:2] if arm == "exclusive" else NAMES
    words = ("predict", f"{arm}/parts/r01", "a.png", "--storage", study.parent / "results", "--out", "out")
    assert "*_mask_left_lung.png, *_mask_right_lung.png" in command(*words, code=0).out
    with (tmp_path / "out/predictions.csv").open() as file:
        (row,) = csv.DictReader(file)
    masks = [np.asarray(Image.open(tmp_path / "out" / row[f"mask_{name}"])) for name in names]
    assert [(mask == 255).sum() for mask in masks] == [int(row[f"{name}_pixels"]) for name in names]
    assert {mask.shape for mask in masks} == {(50, 50)}
    assert np.asarray(Image.open(tmp_path / "out/a_overlay.png")).shape == (50, 50, 3)
    asked = command(*words, "--threshold", "0.3", code=2 if arm == "exclusive" else 0)
    if arm == "exclusive":
        assert "--threshold: the outputs of this network" in asked.err
        assert np.sum([mask == 255 for mask in masks], axis=0).max() <= 1


@pytest.mark.parametrize("arm", ["overlapping", "exclusive", "tiles"])
def test_a_dicom_image_gives_the_masks_of_its_grey_values(
    study: Path, tmp_path: Path, arm: str, command: Command
) -> None:
    write(tmp_path / "b.dcm", noise(3, 50).astype(np.uint16) * 16, Modality="DX")
    picture = read_dicom(tmp_path / "b.dcm", (tmp_path / "b.dcm").read_bytes())
    Image.fromarray(picture.pixels).save(tmp_path / "a.png")
    where = ("--storage", study.parent / "results", "--out", "out")
    command("predict", f"{arm}/parts/r01", "a.png", "b.dcm", *where, code=0)
    for name in NAMES[:2] if arm == "exclusive" else NAMES:
        first, second = (Image.open(tmp_path / f"out/{file}_mask_{name}.png") for file in ("a", "b"))
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


def test_weights_of_several_structures_need_their_record_and_have_numbers_where_no_spec_names_them(
    study: Path, tmp_path: Path, command: Command
) -> None:
    Image.fromarray(noise(3, 50)).save(tmp_path / "a.png")
    trials = load_study(study.parent / "results", "tiny").trials
    (trial_id,) = trials.loc[(trials["arm"] == "overlapping") & (trials["stage"] == "parts"), "trial_id"]
    folder, bare = study.parent / "results/trials" / trial_id, tmp_path / "bare.safetensors"
    shutil.copy(folder / "checkpoint/best.safetensors", bare)
    asked = ("predict", bare, "a.png", "--out", "out")
    refused = command(*asked, "--image-size", "32", "--intensity", "zscore", code=2)
    assert "has 3 outputs, and only the record of their trial says whether" in refused.err
    shutil.copy(folder / "record.json", tmp_path)
    command(*asked, code=0)
    written = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert written == {"a_overlay.png", *(f"a_mask_structure{number}.png" for number in (1, 2, 3))}


@pytest.mark.slow
def test_the_report_has_a_table_structure_by_structure(study: Path, tmp_path: Path, command: Command) -> None:
    command("report", study, "--storage", study.parent / "results", "--out", ".", code=0)
    page = (tmp_path / "report.md").read_text()
    assert "stage parts on general.hold_out, structure by structure" in page
    assert "Stage parts, arm exclusive: values are means over those defined of left_lung, right_lung." in page
