"""Data sets of nnU-Net: their labels, regions, test images and folds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.test_nifti import write as write_nifti
from tests.importing.layouts import SIZE, image, imported, is_accepted, mask, table, write_json
from tests.refusals import problems_of
from xferlab.errors import DataError
from xferlab.importing.nnunet import read_nnunet

LABELS = {"background": 0, "left part": 1, "right part": 2, "ignore": 3}


def data_set(folder: Path, labels: Any = LABELS, *, ending: str = ".png", channels: int = 1) -> Path:
    names = {str(number): f"channel {number}" for number in range(channels)}
    write_json(folder / "dataset.json", {"channel_names": names, "labels": labels, "file_ending": ending})
    values = np.zeros((SIZE, SIZE), np.uint8)
    values[4:20, 2:10], values[4:20, 12:20], values[0, :] = 1, 2, 3
    for number in range(10):
        image(folder / "imagesTr" / f"P{number // 2}_{number}_0000{ending}", number)
        mask(folder / "labelsTr" / f"P{number // 2}_{number}{ending}", np.roll(values, number % 3, axis=0))
    return folder


def test_labels_have_their_names_and_patients_come_from_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = data_set(tmp_path / "Dataset001_Own")
    said, section = imported(capsys, folder, "--patient", "(P[0-9]+)_")
    assert "read as a data set of nnU-Net" in said
    assert section["labels"] == {"left_part": [1], "right_part": [2], "ignore": [3]}
    assert table(folder)[3] == {
        "image": "imagesTr/P1_3_0000.png", "mask": "labelsTr/P1_3.png", "patient_id": "P1",
    }  # fmt: skip
    assert is_accepted(section, tmp_path)
    assert ", 0 of them new" in imported(capsys, folder)[0]


def test_the_warning_about_patients_remains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = data_set(tmp_path / "Dataset001_Own")
    assert "warning: every image counts as a patient of its own" in imported(capsys, folder)[0]
    assert table(folder)[3]["patient_id"] == "P1_3"


def test_regions_share_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    regions = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "inner": 3}
    _, section = imported(capsys, data_set(tmp_path / "set", regions))
    assert section["labels"] == {"label_1": [1], "label_2": [2], "inner": [3]}
    assert section["structures"] == {"whole": ["label_1", "label_2", "inner"], "core": ["label_2", "inner"]}
    assert is_accepted(section, tmp_path)


def test_test_images_are_read_by_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = data_set(tmp_path / "set")
    image(folder / "imagesTs" / "P9_0_0000.png", 99)
    said, section = imported(capsys, folder)
    assert section["where"] == {"part": ["training"]}
    assert "`where: {part: test}` reads them" in said
    assert [(row["image"], row["mask"]) for row in table(folder) if row["part"] == "test"] == [
        ("imagesTs/P9_0_0000.png", "")
    ]


@pytest.mark.parametrize("place", ["nnUNet_raw/set", "nnUNet_preprocessed/set"])
def test_folds_become_a_column_that_a_split_can_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    folder = data_set(tmp_path / "nnUNet_raw" / "set")
    cases = [f"P{number // 2}_{number}" for number in range(10)]
    folds = [{"train": sorted({*cases} - {*cases[n::5]}), "val": cases[n::5]} for n in range(5)]
    write_json(tmp_path / place / "splits_final.json", folds)
    said, _ = imported(capsys, folder)
    assert "`split: {by: fold}` tests on each fold in turn" in said
    assert [row["fold"] for row in table(folder)] == ["0", "1", "2", "3", "4"] * 2


def test_other_splits_give_no_folds(tmp_path: Path) -> None:
    folder = data_set(tmp_path / "set")
    write_json(folder / "splits_final.json", [{"train": ["P0_0"], "val": ["P0_1"]}])
    listing = read_nnunet(folder)
    assert not any("fold" in entry.cells for entry in listing.images)
    assert "is no cross-validation of these images" in listing.remarks[0]


def test_folds_that_are_no_more_are_said_to_be_those_of_an_earlier_import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = data_set(tmp_path / "set")
    splits, cases = folder / "splits_final.json", [f"P{number // 2}_{number}" for number in range(10)]
    test = image(folder / "imagesTs" / "P9_0_0000.png", 99)
    write_json(splits, [{"train": [], "val": cases[:5]}, {"train": [], "val": cases[5:]}])
    assert "keeps its column" not in imported(capsys, folder)[0]
    write_json(splits, [{"train": [], "val": cases[:5]}])
    said, _ = imported(capsys, folder)
    assert "is no cross-validation of these images, so it gives no column fold" in said
    warning = f"warning: {folder}/metadata.csv keeps its column {{}}, which this import does not give"
    assert warning.format("fold") in said
    splits.unlink()
    test.unlink()
    said, _ = imported(capsys, folder)
    assert warning.format("fold") in said
    assert warning.format("part") in said
    # Only who made a column can know what is in it.
    assert [row["fold"] for row in table(folder) if row["part"] == "training"] == ["0"] * 5 + ["1"] * 5


def test_what_belongs_to_no_case_is_said(tmp_path: Path) -> None:
    folder = data_set(tmp_path / "set")
    image(folder / "imagesTr" / "P9.png")
    mask(folder / "labelsTr" / "P8_1.png")
    image(folder / "imagesTr" / "P0_0_0000.bmp")
    assert [str(problem) for problem in read_nnunet(folder).left_out] == [
        f"{folder}/imagesTr/P0_0_0000.bmp: warning: does not end with .png.",
        f"{folder}/imagesTr/P9.png: warning: is not named CASE_0000.png, as images of nnU-Net are.",
        f"{folder}/labelsTr/P8_1.png: warning: is the mask of no image.",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 2}, r"names 2 channels \(channel 0, channel 1\); one grey channel is accepted"),
        ({"labels": {"background": 0}}, "names no label but the background"),
        ({"labels": {"a b": 1, "a_b": 2}}, "has a label 'a_b'; names of structures have letters"),
        ({"labels": {"1": "left"}}, "gives the label '1' as 'left'; numbers are accepted"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    problems_of(DataError, read_nnunet, data_set(tmp_path / "set", **change), match=message)


def test_channels_in_files_of_their_own_are_refused(tmp_path: Path) -> None:
    folder = data_set(tmp_path / "set", channels=3)
    image(folder / "imagesTr" / "P0_0_0001.png")
    message = r"has channels in files of their own \(0000, 0001\)"
    problems_of(DataError, read_nnunet, folder, match=message)


def test_version_1_is_refused(tmp_path: Path) -> None:
    folder = data_set(tmp_path / "set")
    write_json(folder / "dataset.json", {"modality": {"0": "CT"}, "labels": {"0": "background"}})
    problems_of(DataError, read_nnunet, folder, match="lacks `labels`, `channel_names` or `file_ending`")


def test_slices_of_nifti_are_read_and_volumes_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "set"
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    info = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    write_json(folder / "dataset.json", info)
    draw = np.random.default_rng(0)
    for number in range(8):
        values = draw.integers(-1000, 1000, (SIZE, SIZE, 1 + number // 7)).astype(np.int16)
        marked = (np.arange(SIZE)[:, None, None] > 8 + number) & (values == values)
        write_nifti(folder / "imagesTr" / f"P{number}_0000.nii.gz", values)
        axes = "LPS" if number else "RAS"
        write_nifti(folder / "labelsTr" / f"P{number}.nii.gz", marked.astype(np.uint8), axes)
    said, section = imported(capsys, folder)
    assert "P7_0000.nii.gz: warning: is a volume of 24x24x2" in said
    assert [row["patient_id"] for row in table(folder)] == [f"P{number}" for number in range(7)]
    assert is_accepted(section, tmp_path)
    remark = "imagesTr/P0_0000.nii.gz: warning: the axes of the image lead to LPS, those of a mask to RAS"
    assert remark in capsys.readouterr().out
