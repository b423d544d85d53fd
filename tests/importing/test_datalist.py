"""Lists of images and labels: MONAI reads them from the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.data import load_decathlon_datalist

from tests.importing.layouts import SIZE, image, imported, is_accepted, mask, table, write_json
from tests.refusals import problems_of
from xferlab.errors import DataError
from xferlab.importing.datalist import read_datalist


def data_set(folder: Path, **more: Any) -> Path:
    values = np.zeros((SIZE, SIZE), np.uint8)
    values[4:20, 2:10], values[4:20, 12:20] = 1, 2
    items = []
    for number in range(8):
        image(folder / "images" / f"{number}.png", number)
        mask(folder / "labels" / f"{number}.png", np.roll(values, number % 3, axis=0))
        own = {"patient_id": f"P{number // 2}", "fold": number % 2}
        items.append({"image": f"images/{number}.png", "label": f"./labels/{number}.png", **own})
    labels = {"0": "background", "1": "left", "2": "right"}
    return write_json(folder / "lists" / ".." / "data.json", {"labels": labels, "training": items, **more})


def test_a_list_is_read_as_by_monai(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lists").mkdir()
    file = data_set(tmp_path)
    said, section = imported(capsys, file)
    assert "read as a list of images and labels" in said
    expected = {(each["image"], each["label"]) for each in load_decathlon_datalist(str(file))}
    assert {(str(e.image), str(e.masks["mask"])) for e in read_datalist(file).images} == {
        tuple(str(Path(path).resolve()) for path in pair) for pair in expected
    }
    assert section["labels"] == {"left": [1], "right": [2]}
    assert table(tmp_path)[3] == {
        "image": "images/3.png", "mask": "labels/3.png", "patient_id": "P1", "fold": "1", "part": "training",
    }  # fmt: skip
    assert "4 patients, with up to 2 images each" in said
    assert "warning" not in said
    assert is_accepted(section, tmp_path)


def test_a_decathlon_folder_has_its_test_images_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lists").mkdir()
    data_set(tmp_path, test=["./images/t.png"]).rename(tmp_path / "dataset.json")
    image(tmp_path / "images" / "t.png", 99)
    _, section = imported(capsys, tmp_path)
    assert section["where"] == {"part": ["training"]}
    assert [row["image"] for row in table(tmp_path) if row["part"] == "test"] == ["images/t.png"]


def test_classes_become_a_column(tmp_path: Path) -> None:
    for number in range(2):
        image(tmp_path / f"{number}.png", number)
    items = [{"image": "0.png", "label": 1}, {"image": ["1.png"], "label": "normal", "size": [1, 2]}]
    listing = read_datalist(write_json(tmp_path / "a.json", items))
    assert [dict(entry.cells) for entry in listing.images] == [
        {"patient_id": "", "label": "1"}, {"patient_id": "", "label": "normal"},
    ]  # fmt: skip


def test_no_number_is_no_value(tmp_path: Path) -> None:
    image(tmp_path / "0.png")
    item = {"image": "0.png", "patient_id": float("nan"), "pathology": float("nan"), "age": -float("inf")}
    (entry,) = read_datalist(write_json(tmp_path / "a.json", [item])).images
    assert (dict(entry.cells), entry.knows_patient) == ({"patient_id": ""}, False)


def test_whole_numbers_are_the_same_however_they_are_written(tmp_path: Path) -> None:
    items = [{"image": f"{number}.png", "patient_id": text} for number, text in enumerate((7, 7.0, "7"))]
    for item in items:
        image(tmp_path / str(item["image"]))
    listing = read_datalist(write_json(tmp_path / "a.json", items))
    assert {entry.cells["patient_id"] for entry in listing.images} == {"7"}


def test_a_list_of_the_first_nnunet_names_images_without_their_channel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = []
    for number in range(3):
        image(tmp_path / "imagesTr" / f"P{number}_0000.png", number)
        mask(tmp_path / "labelsTr" / f"P{number}.png", np.eye(SIZE, dtype=np.uint8))
        items.append({"image": f"./imagesTr/P{number}.png", "label": f"./labelsTr/P{number}.png"})
    image(tmp_path / "imagesTr" / "P2_0001.png", 9)
    labels = {"0": "background", "1": "lung"}
    content = {"modality": {"0": "X-ray"}, "labels": labels, "training": items, "test": []}
    file = write_json(tmp_path / "dataset.json", content)
    said, section = imported(capsys, file)
    assert [row["image"] for row in table(tmp_path)] == ["imagesTr/P0_0000.png", "imagesTr/P1_0000.png"]
    assert section["labels"] == {"lung": [1]}
    assert "training[2]: warning" in said
    assert "P2.png: there is no such file" in said


def test_what_cannot_be_read_is_left_out_with_the_reason(tmp_path: Path) -> None:
    image(tmp_path / "0.png")
    items = [
        {"image": "0.png"}, {"image": "1.png"}, {"image": ["0.png", "1.png"]}, {"label": "0.png"},
    ]  # fmt: skip
    file = write_json(tmp_path / "a.json", {"validation": items})
    assert [str(problem) for problem in read_datalist(file).left_out] == [
        f"{file}: validation[1]: warning: {tmp_path / '1.png'}: there is no such file.",
        f"{file}: validation[2]: warning: names 2 files (0.png, 1.png) for one image or label; "
        "one of grey levels is accepted.",
        f"{file}: validation[3]: warning: has no field 'image'.",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"training": [{"image": "0.png"}], "test": ["./0.png"]},
            r"test\[0\]: .*0\.png is in the file twice",
        ),
        (
            {"training": [{"image": "9.png"}]},
            r"names no image that is there\. .*9\.png: there is no such file",
        ),
    ],
)
def test_a_list_that_contradicts_itself_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    image(tmp_path / "0.png")
    problems_of(DataError, read_datalist, write_json(tmp_path / "a.json", content), match=message)


def test_patients_are_those_of_the_list_as_it_is_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lists").mkdir()
    file = data_set(tmp_path)
    imported(capsys, file)
    content = json.loads(file.read_text())
    content["training"][7]["patient_id"] = "P2"
    content["training"][6]["patient_id"] = None
    image(tmp_path / "images" / "new.png", 9)
    content["training"].append({"image": "images\\new.png", "patient_id": None})
    write_json(file, content)
    said, _ = imported(capsys, file)
    assert "9 images, 1 of them new, 1 changed" in said
    assert "warning: nothing says who is on 1 of 9 images, such as images/new.png" in said
    assert [row["patient_id"] for row in table(tmp_path)][6:] == ["P3", "P2", "images/new"]
