"""`predict` with an ensemble: only of networks that never saw the patient, for images of the study."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.cli.ensemble.conftest import (
    NAME,
    Predict,
    Trained,
    probabilities,
    rows,
    values,
)
from xferlab.records import layout
from xferlab.training.structures import at_size

pytestmark = pytest.mark.component


def test_an_ensemble_predicts_the_mean_and_says_how_far_its_networks_agree(
    trained: Trained, predict: Predict, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (60, 80), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "new.png")
    several = probabilities(trained, trained.trials, pixels)
    level = round(float(np.median(several.mean(axis=0))), 4)
    said = predict("new.png", threshold=level)
    assert f"1 image predicted by {NAME} (3 repetitions) at 32 px" in said.out
    assert said.err == ""
    (row,) = rows()
    name = next(column for column in row if column.endswith("_pixels")).removesuffix("_pixels")
    assert (row["networks"], row["width"], row["height"]) == ("3", "80", "60")
    mean = at_size(several.mean(axis=0)[None], width=80, height=60)[0]
    mask = values("new_mask.png") == 255
    assert np.array_equal(mask, mean > level)
    assert float(row[f"{name}_probability"]) == pytest.approx(mean[mask].mean(), abs=1e-5)
    p = several.mean(axis=0).astype(float)
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    assert float(row["entropy"]) == pytest.approx(entropy.mean(), abs=1e-5)
    assert float(row["disagreement"]) == pytest.approx(several.std(axis=0).mean(), abs=1e-5)
    assert 0 < float(row["mutual_information"]) < float(row["entropy"]) < np.log(2)
    for kind, expected, largest in (
        ("entropy", entropy, np.log(2)),
        ("disagreement", several.std(axis=0), 0.5),
    ):
        stored = values(f"new_{kind}.png")
        assert (stored.shape, stored.dtype) == ((60, 80), np.uint16)
        wide = at_size(expected.astype(np.float32)[None], width=80, height=60)[0]
        assert np.abs(stored / 65535 * largest - wide).max() < 1e-4
        assert float(row[f"{name}_{kind}"]) == pytest.approx(wide[mask].mean(), abs=1e-5)


def test_images_that_are_left_out_for_one_reason_are_told_in_one_line(
    trained: Trained, predict: Predict
) -> None:
    known, other = trained.who(0), trained.who(1)
    said = predict(
        trained.image(known, "fixed"), trained.image(known, "lateral"), trained.image(other, "fixed"), code=1
    )
    line, last = said.err.splitlines()
    assert line.startswith(f"{trained.image(known, 'fixed')}: is of the study's data")
    assert f"(1 more like this: {known}-lateral.png)" in line
    assert last == "2 inputs could not be predicted"


@pytest.mark.parametrize("device", ["fixed", "lateral"])
def test_an_image_of_the_study_is_predicted_by_those_who_never_saw_its_patient(
    trained: Trained, predict: Predict, device: str
) -> None:
    """Also where it is not of the section that they trained on."""
    patients = [trained.who(number) for number in (0, 1, 3)]
    said = predict(*(trained.image(patient, device) for patient in patients), code=1)
    shown = {Path(row["input"]).name: int(row["networks"]) for row in rows()}
    assert shown == {f"{patients[1]}-{device}.png": 1, f"{patients[2]}-{device}.png": 3}
    refused, last = said.err.splitlines()
    assert refused.startswith(
        f"{trained.image(patients[0], device)}: is of the study's data, and all networks"
    )
    assert last == "1 input could not be predicted"
    assert "3 images of the study's data: predicted by those networks only" in said.out
    (alone,) = (row for row in rows() if row["networks"] == "1")
    assert (float(alone["disagreement"]), float(alone["mutual_information"])) == (0, 0)
    with Image.open(trained.image(patients[1], device)) as picture:
        single = probabilities(trained, trained.unseen[patients[1]], np.asarray(picture))
    p = single[0].astype(float)
    assert float(alone["entropy"]) == pytest.approx(
        (-p * np.log(p) - (1 - p) * np.log(1 - p)).mean(), abs=1e-5
    )


def test_the_study_file_says_who_is_one_patient(trained: Trained, predict: Predict) -> None:
    friend = trained.image("friend", "lateral")
    predict(friend)
    assert rows()[0]["networks"] == "3"
    number = len(trained.unseen[13])
    assert 0 < number < 3
    predict(friend, study=trained.study, storage=trained.store.location, code=0)
    assert rows()[0]["networks"] == str(number)


def test_a_misspelt_stage_is_told_the_nearest_one(trained: Trained, predict: Predict) -> None:
    said = predict(trained.image(0), model="a/genral", code=2)
    assert (
        "accepted: an id, arm/stage/rNN such as a/alone/r01, arm/stage such as a/alone for the mean of its "
        "repetitions, or a weights file. Did you mean 'a/general'?"
    ) in said.err
    assert "Did you mean 'a/general/r02'?" in predict(trained.image(0), model="a/genral/r02", code=2).err


def test_images_that_all_networks_know_are_left_out_together(trained: Trained, predict: Predict) -> None:
    said = predict(trained.image(trained.who(0)), code=2)
    assert "learned from its patient (training or validation), so that an ensemble would look too" in said.err
    assert not Path("out").exists()


def test_data_that_is_elsewhere_and_repetitions_that_lack(
    trained: Trained, predict: Predict, tmp_path: Path
) -> None:
    shutil.copytree(trained.store.location, tmp_path / "s")
    image = shutil.copy(trained.image(trained.who(0)), tmp_path / "x.png")
    (tmp_path / "s" / layout.TrialFiles(trained.trials[1]).record).unlink()
    pack = trained.study.parent / "pack"
    pack.rename(pack.with_name("away"))
    try:
        said = predict(image, storage="s")
    finally:
        pack.with_name("away").rename(pack)
    assert "cases that these networks learned from are not found on this machine" in said.err
    for trial in (trained.trials[0], trained.trials[2]):
        (tmp_path / "s" / layout.TrialFiles(trial).record).unlink()
    said = predict(image, storage="s", code=2)
    assert f"{NAME}: none of 3 repetitions is complete" in said.err


@pytest.fixture
def moved(trained: Trained, tmp_path: Path) -> Iterator[Path]:
    """The folder of the images, which has moved, as `study.yaml` beside it says."""
    pack, moved = trained.study.parent / "pack", tmp_path / "moved"
    study = yaml.safe_load(trained.study.read_text())
    for section in study["data"].values():
        section["root"] = "moved"
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    shutil.copytree(pack, moved)
    pack.rename(pack.with_name("away"))
    yield moved
    pack.with_name("away").rename(pack)


def test_data_that_have_moved_are_found_by_the_study_file(
    trained: Trained, predict: Predict, moved: Path
) -> None:
    """Also by stages that read some structures of a section: their cases have other digests."""
    images = [moved / f"{trained.who(number)}-fixed.png" for number in (0, 1)]
    said = predict(*images, study="study.yaml", storage=trained.store.location, code=1)
    assert [row["networks"] for row in rows()] == ["1"]
    assert "2 images of the study's data: predicted by those networks only" in said.out
    assert "not found on this machine" not in said.err
    said = predict(*images, "--json", storage=trained.store.location)
    document = json.loads(said.out)
    assert [image["networks"] for image in document["images"]] == [3, 3]
    (problem,) = document["problems"]
    assert problem["severity"] == "warning"
    assert "are not found on this machine" in problem["what"]
    assert f"{NAME}: warning: {problem['what']}" in said.err


def test_nothing_is_assured_where_only_some_of_the_data_are_found(
    trained: Trained, predict: Predict, moved: Path
) -> None:
    table = moved / "metadata.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if f"p{trained.who(0)}," not in line))
    image = moved / f"{trained.who(3)}-fixed.png"
    said = predict(image, study="study.yaml", storage=trained.store.location)
    assert "cases that these networks learned from are not found on this machine" in said.err
    assert "predicted by those networks only" not in said.out
