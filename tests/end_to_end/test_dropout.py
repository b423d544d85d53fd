"""`unet_dropout` from the study file to predictions, report and search: all that `unet` does."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.test_dicom import write
from tests.studies import TINY, noise, write_study
from xferlab.analysis import load_study
from xferlab.cli.main import BAD_INPUT, main
from xferlab.metrics.measuring import METRICS

pytestmark = pytest.mark.component
ON = ["general.hold_out", "general.hold_out@cable", "general.hold_out@original"]
FREEZE = {"part": "donor", "unfreeze_after": {"decoder1": 1}}
STAGES: dict[str, Any] = {
    "colours": {"data": "brain"},
    "folded": {"data": "general", "starts_from": "colours", "adapt": {"fold": "sum"}, "evaluate_on": ON},
    "frozen": {
        "data": "general",
        "starts_from": "folded",
        "adapt": {"translator": {"depth": 1, "width": 4}, "freeze": FREEZE},
        "evaluate_on": ON,
    },
    "parts": {
        "data": "general",
        "structures": ["left_lung", "right_lung"],
        "model": {"outputs": "exclusive"},
        "starts_from": "folded",
        "adapt": {"head": "new"},
        "label_fraction": 0.5,
        "evaluate_on": ON,
    },
}  # fmt: skip
MODEL = {"name": "unet_dropout", "init_features": 2, "image_size": 32, "in_channels": 3}
DATA = {
    "brain": {"source": "phantom_mri", "count": 18, "seed": 1, "size_px": 32},
    "general": {"source": "phantom_cxr", "count": 18, "seed": 1, "size_px": 48, "hold_out": 0.3},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms have run: one size, and tiles of images at their own size with single images in a batch."""
    folder = tmp_path_factory.mktemp("dropout")
    tiles = {"model.image_size": "native", "model.tiles": {"size": 16}, "training.batch_size": 1}
    path = write_study(
        folder, repetitions=1, data=DATA, model=MODEL, stages=STAGES, arms={"baseline": {}, "tiles": tiles},
        training={**TINY["training"], "max_epochs": 2, "augmentation": {"flip": 0.5, "noise": 0.1}},
        features={"on": "general.hold_out", "cases": 4},
    )  # fmt: skip
    (folder / "space.yaml").write_text("training.lr: {loguniform: [1.0e-3, 1.0e-2]}\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XFERLAB_CACHE", str(folder / "cache"))
        patched.chdir(folder)
        assert main(["run", str(path), "--executor", "in-process", "--storage", "results"]) == 0
    return path


@pytest.fixture(autouse=True)
def here(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XFERLAB_CACHE", str(study.parent / "cache"))
    monkeypatch.chdir(study.parent)


@pytest.mark.slow
def test_each_stage_and_variant_has_every_metric() -> None:
    cases = load_study("results", "tiny").cases
    measured = cases[cases["stage"] != "colours"]
    assert set(zip(measured["arm"], measured["stage"], measured["part"], strict=True)) == {
        (arm, stage, f"hold_out{variant}")
        for arm in ("baseline", "tiles")
        for stage in ("folded", "frozen", "parts")
        for variant in ("", "@cable", "@original")
    }
    assert {metric.name for metric in METRICS} <= set(measured["metric"])
    assert {"DICE_PIXELWISE_left_lung", "DICE_PIXELWISE_right_lung"} <= set(measured["metric"])
    assert measured.loc[measured["metric"] == "DICE_PIXELWISE", "value"].between(0.5, 1).all()


@pytest.mark.slow
def test_a_report_with_figures_and_deep_features_is_written() -> None:
    assert main(["report", "study.yaml", "--storage", "results", "--out", "report"]) == 0
    page = next(Path("report").glob("*.html")).read_text()
    assert "Dice by pixel" in page


@pytest.mark.parametrize("model", ["baseline/frozen/r01", "baseline/parts/r01", "tiles/folded/r01"])
def test_pictures_and_dicom_are_predicted(model: str, tmp_path: Path) -> None:
    Image.fromarray(noise(1, 70)).save(tmp_path / "a.png")
    write(tmp_path / "b.dcm", noise(2, 60).astype(np.uint16) * 16)
    files = [str(tmp_path / name) for name in ("a.png", "b.dcm")]
    assert main(["predict", model, *files, "--out", str(tmp_path / "out"), "--storage", "results"]) == 0
    with open(tmp_path / "out/predictions.csv", newline="") as file:
        assert [row["width"] for row in csv.DictReader(file)] == ["70", "60"]


def weights_of(stage: str) -> Path:
    trials = load_study("results", "tiny").trials
    (trial_id,) = trials.loc[(trials["arm"] == "baseline") & (trials["stage"] == stage), "trial_id"]
    (weights,) = Path("results/trials", trial_id).rglob("best.safetensors")
    return weights


def test_bare_weights_are_enough(tmp_path: Path) -> None:
    weights = weights_of("frozen")
    shutil.copy(weights, tmp_path / "mine.safetensors")
    Image.fromarray(noise(1, 70)).save(tmp_path / "a.png")
    words = ["predict", str(tmp_path / "mine.safetensors"), str(tmp_path / "a.png")]
    assert main([*words, "--image-size", "32", "--intensity", "zscore", "--out", str(tmp_path / "bare")]) == 0
    known = [
        "predict",
        "baseline/frozen/r01",
        words[2],
        "--storage",
        "results",
        "--out",
        str(tmp_path / "known"),
    ]
    assert main(known) == 0
    one, other = ((tmp_path / out / "a_mask.png").read_bytes() for out in ("bare", "known"))
    assert one == other


@pytest.mark.slow
def test_a_search_finds_a_learning_rate() -> None:
    words = ["tune", "study.yaml", "--space", "space.yaml", "--samples", "2", "--stage", "folded"]
    assert main([*words, "--repeats", "1", "--workers", "1", "--storage", "results"]) == 0


def test_a_stage_that_starts_from_the_other_architecture_is_refused(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its line where a stage trains it, and by what the file holds where weights are given."""
    other = {**STAGES["folded"], "model": {"name": "unet"}}
    path = write_study(tmp_path, data=DATA, model=MODEL, stages={**STAGES, "folded": other}, arms={"a": {}})
    assert main(["check", str(path), "--storage", "results"]) == BAD_INPUT
    line = path.read_text().splitlines().index("    starts_from: colours") + 1
    assert (
        f"{path}:{line}: model.name of stage 'folded' is unet, and unet_dropout in 'colours'"
        in capsys.readouterr().err
    )

    weights = study.parent / weights_of("colours")
    given = {"mine": {"weights": {"path": str(weights)}}, "folded": {**other, "starts_from": "mine"}}
    path = write_study(tmp_path, data=DATA, model={**MODEL, "name": "unet"}, stages=given, arms={"a": {}})
    assert main(["check", str(path), "--storage", "results"]) == BAD_INPUT
    said = capsys.readouterr()
    told = said.out + said.err
    line = path.read_text().splitlines().index("    weights:") + 1
    assert re.search(
        f"study.yaml:{line}: .*these are weights of a unet_dropout, and the network is a unet; ", told
    )
