"""Files of COCO: outlines against scikit-image, run lengths by hand."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.draw import polygon2mask

from tests.importing.layouts import SIZE, image, imported, is_accepted, mask, table, write_json
from tests.refusals import problems_of
from xferlab.data.decode import read_labels
from xferlab.errors import DataError
from xferlab.importing.coco import read_coco
from xferlab.importing.outlines import filled, mask_of

SQUARE = [[4, 5, 12, 5, 12, 15, 4, 15]]
"""8 columns and 10 rows."""


def data_set(folder: Path, *, more: Any = ()) -> Path:
    images = [
        {"id": number, "file_name": f"P{number}.png", "width": SIZE, "height": SIZE} for number in range(8)
    ]
    for item in images:
        image(folder / "images" / item["file_name"], item["id"])
    shift = [[[value + number / 2 for value in SQUARE[0]]] for number in range(7)]
    outlines = [
        {"id": number, "image_id": number, "category_id": 1, "segmentation": shift[number]}
        for number in range(7)
    ]
    categories = [{"id": 1, "name": "left lung"}, {"id": 2, "name": "device"}, {"id": 3, "name": "unused"}]
    content = {"images": images, "annotations": [*outlines, *more], "categories": categories}
    return write_json(folder / "annotations" / "instances_default.json", content)


def test_masks_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = {
        "size": [SIZE, SIZE],
        "counts": [SIZE, 10, SIZE * SIZE - SIZE - 10],
    }  # 10 rows of the second column
    more = [{"image_id": 0, "category_id": 2, "segmentation": runs, "iscrowd": 1}]
    file = data_set(tmp_path, more=more)
    said, section = imported(capsys, file)
    assert "read as a file of COCO" in said
    assert "1 images have no annotation, so they have no mask, either" in said
    assert section["labels"] == {"left_lung": [255], "device": [255]}
    first, last = table(tmp_path)[0], table(tmp_path)[-1]
    assert first["mask_device"] == "masks_instances_default/device/P0.png"
    assert (last["image"], last["mask_device"], last["mask_left_lung"]) == ("images/P7.png", "", "")
    lung, device = (read_labels(tmp_path / first[f"mask_{name}"]).values for name in section["labels"])
    assert (lung[5:15, 4:12] == 255).all()
    assert (np.count_nonzero(lung), np.count_nonzero(device)) == (80, 10)
    assert (device[:10, 1] == 255).all()
    assert is_accepted(section, tmp_path)
    assert ", 0 of them new" in imported(capsys, file)[0]


def test_a_polygon_has_the_pixels_whose_centres_are_inside() -> None:
    draw = np.random.default_rng(0)
    for _ in range(100):
        count = draw.integers(3, 12)
        angles, radii = np.sort(draw.uniform(0, 2 * np.pi, count)), draw.uniform(5, 25, count)
        points = np.stack([20 + radii * np.cos(angles), 15 + radii * np.sin(angles)], axis=1)  # some outside
        expected = polygon2mask((30, 40), points[:, ::-1] - 0.5)
        assert (filled(points.ravel().tolist(), (30, 40)) == expected).all()


def test_several_polygons_are_one_mask() -> None:
    two = [*SQUARE, [0, 0, 3, 0, 3, 3, 0, 3]]
    assert mask_of(two, (SIZE, SIZE)).sum() == 80 + 9


@pytest.mark.parametrize(
    ("packed", "runs"),
    [
        ("9", [9]),  # 9 + 48
        ("T3", [100]),  # 100 = 3 * 32 + 4: 4 + 32 + 48 and 3 + 48
        ("`0", [16]),  # the fifth bit is a sign, so 16 needs a second group
        ("0213O", [0, 2, 1, 5, 0]),  # from the fourth on, differences: 3 = 5 - 2, -1 = 0 - 1
    ],
)
def test_packed_run_lengths_are_those_of_coco(packed: str, runs: list[int]) -> None:
    size = (sum(runs), 1)
    masks = [mask_of({"size": list(size), "counts": counts}, size) for counts in (packed, runs)]
    assert (masks[0] == masks[1]).all()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "has no outline"),
        (None, "has no outline"),
        ([[1, 2, 3]], "not x and y of three points"),
        ([[0, 0, 5, float("nan"), 5, 5]], "coordinates that are no numbers"),
        ({"size": [3, 3], "counts": [9]}, r"run lengths for the size \[3, 3\]"),
        ({"size": [SIZE, SIZE], "counts": [9]}, "run lengths of 9 pixels, and its image has 576"),
        ({"size": [SIZE, SIZE], "counts": "T"}, "end too early"),
        ({"size": [SIZE, SIZE], "counts": "!"}, "packed in another way"),
        ({"size": [SIZE, SIZE], "counts": [-1, 577]}, "no counts of pixels"),
    ],
)
def test_outlines_that_cannot_be_drawn_leave_no_mask(tmp_path: Path, segmentation: Any, message: str) -> None:
    more = [{"image_id": 0, "category_id": 2, "segmentation": segmentation}]
    listing = read_coco(data_set(tmp_path, more=more))
    (problem,) = listing.left_out
    assert str(problem).endswith("the image has no mask of device.")
    with pytest.raises(ValueError, match=message):
        mask_of(segmentation, (SIZE, SIZE))
    assert "mask_device" not in listing.images[0].masks
    assert "mask_device" in listing.images[1].masks  # annotated, and shows none


def test_an_image_is_not_guessed(tmp_path: Path) -> None:
    file = data_set(tmp_path, more=[{"image_id": 99, "category_id": 1, "segmentation": SQUARE}])
    image(tmp_path / "P0.png")
    (tmp_path / "images" / "P1.png").unlink()
    problems = [str(problem) for problem in read_coco(file).left_out]
    assert "P0.png: warning: is in several of the folders" in problems[0]
    assert "P1.png: warning: is in none of the folders" in problems[1]
    assert "annotations[7] is of an image or a category that the file does not have" in problems[2]


def test_annotations_that_are_deleted_leave_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device = {"image_id": 0, "category_id": 2, "segmentation": SQUARE}
    file = data_set(tmp_path, more=[device])
    imported(capsys, file)
    mask(tmp_path / "mine.png")
    rows = table(tmp_path)
    rows[6]["mask_mine"] = "mine.png"
    with open(tmp_path / "metadata.csv", "w", newline="", encoding="utf-8") as text:
        writer = csv.DictWriter(text, [*rows[0], "mask_mine"], restval="")
        writer.writeheader()
        writer.writerows(rows)
    content = json.loads(file.read_text())
    content["annotations"] = content["annotations"][:6]  # neither the last image's, nor that of the device
    write_json(file, content)
    said, _ = imported(capsys, file)
    assert ", 0 of them new, 7 changed" in said
    assert "mask_left_lung: 6 of 8 images have one" in said
    assert {row["mask_device"] for row in table(tmp_path)} == {""}
    assert (table(tmp_path)[6]["mask_left_lung"], table(tmp_path)[6]["mask_mine"]) == ("", "mine.png")
    write_json(file, {**content, "annotations": []})
    imported(capsys, file)
    assert {row["mask_left_lung"] for row in table(tmp_path)} == {""}


@pytest.mark.skipif(os.sep == "\\", reason="a backslash divides folders there")
def test_names_may_be_those_of_windows(tmp_path: Path) -> None:
    file = data_set(tmp_path)
    content = json.loads(file.read_text())
    for item in content["images"]:
        item["file_name"] = f"images\\{item['file_name']}"
    write_json(file, content)
    first = read_coco(file).images[0]
    assert first.image == tmp_path / "images" / "P0.png"
    assert first.masks["mask_left_lung"] == tmp_path / "masks_instances_default/left_lung/images/P0.png"
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    problems_of(
        DataError, read_coco, file, match=r"names no image that is there\. images/P0\.png: is in none"
    )


def test_names_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    file = data_set(tmp_path / "a")
    content = {"id": 0, "file_name": "../../P0.png", "width": SIZE, "height": SIZE}
    image(tmp_path / "P0.png")
    square = {"image_id": 0, "category_id": 1, "segmentation": SQUARE}
    category = [{"id": 1, "name": "a"}]
    write_json(file, {"images": [content], "annotations": [square], "categories": category})
    (entry,) = read_coco(file).images
    assert entry.masks["mask_a"] == tmp_path / "masks_instances_default" / "a" / "P0.png"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a b", "a_b"], "must differ in these"),
        ([f"{'a' * 70}{end}" for end in "bc"], "must differ in these"),  # a study takes no longer names
        (["lung", "ignore"], "`ignore` is the label of pixels that count nowhere. Rename the structure"),
    ],
)
def test_categories_that_are_no_names_of_structures_are_refused(
    tmp_path: Path, names: list[str], message: str
) -> None:
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    content = {"images": [], "annotations": [], "categories": categories}
    file = write_json(tmp_path / "a.json", content)
    problems_of(DataError, read_coco, file, match=f"has a category .*{message}")


def test_long_names_of_categories_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = data_set(tmp_path)
    file.write_text(file.read_text().replace("left lung", "l" * 70))
    _, section = imported(capsys, file)
    assert is_accepted(section, tmp_path)


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        image(tmp_path / name)
    images = [{"id": n, "file_name": f"a.{n}", "width": SIZE, "height": SIZE} for n in ("png", "jpg")]
    file = write_json(tmp_path / "a.json", {"images": images, "annotations": [], "categories": []})
    problems_of(DataError, read_coco, file, match="has two images 'a'; rename one")
    write_json(file, {"images": ["a"], "annotations": [], "categories": []})
    problems_of(DataError, read_coco, file, match="has an image without `id`")
    write_json(file, {"images": {}, "annotations": [], "categories": []})
    problems_of(DataError, read_coco, file, match="lacks one of the lists images, annotations, categories")
