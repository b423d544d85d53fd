"""Public sets in their published folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.importing.layouts import SIZE, image, imported, is_accepted, mask, table
from tests.refusals import problems_of
from xferlab.cli.main import BAD_INPUT, main
from xferlab.data.decode import read_image, read_labels
from xferlab.data.sources.manifest.table import read_table
from xferlab.errors import DataError
from xferlab.importing.collection import is_collection, read_collection
from xferlab.importing.found import Entry, Listing
from xferlab.importing.merged import with_merged
from xferlab.importing.public_sets import read_public
from xferlab.importing.published import SETS, RawImages
from xferlab.importing.raw_images import pixels_of

MONTGOMERY, SHENZHEN, JSRT, _ = SETS
SCR = ("heart", "left clavicle", "left lung", "right clavicle", "right lung")


def montgomery(folder: Path) -> Path:
    for number in range(6):
        name = f"MCUCXR_{number:04}_{number % 2}.png"
        image(folder / "CXR_png" / name, number)
        for side in ("leftMask", "rightMask"):
            mask(folder / "ManualMask" / side / name)
    return folder


def test_montgomery(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = montgomery(tmp_path / "MontgomerySet")
    said, section = imported(capsys, folder)
    assert "read as the Montgomery County set" in said
    assert "warning" not in said
    assert section["structures"]["lungs"] == ["left_lung", "right_lung"]
    assert is_accepted(section, tmp_path)
    assert table(folder)[1] == {
        "image": "CXR_png/MCUCXR_0001_1.png",
        "mask_left_lung": "ManualMask/leftMask/MCUCXR_0001_1.png",
        "mask_right_lung": "ManualMask/rightMask/MCUCXR_0001_1.png",
        "mask": "masks_png/mask/MCUCXR_0001_1.png",  # both lungs
        "patient_id": "MCUCXR_0001_1",
        "pathology": "tuberculosis",
    }
    assert "6 of 6 images have no pixel spacing: their shape is not that of the Montgomery County" in said
    for number, shape in enumerate([(4020, 4892), (2446, 2010)]):  # upright or not, and of half the size
        pixels = np.zeros(shape, np.uint8)
        Image.fromarray(pixels).save(folder / "CXR_png" / f"MCUCXR_{number:04}_{number % 2}.png")
    assert "4 of 6 images have no pixel spacing" in imported(capsys, folder)[0]
    assert [row["spacing_mm"] for row in table(folder)] == ["0.0875", "0.175", "", "", "", ""]


def shenzhen(folder: Path, number: int = 3) -> Path:
    for each in range(number):
        image(folder / "CXR_png" / f"CHNCXR_{each:04}_1.png", 10 + each)
        mask(folder / "mask" / f"CHNCXR_{each:04}_1_mask.png")
    return folder


def test_of_two_sets_in_a_folder_one_has_to_be_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    montgomery(tmp_path / "MontgomerySet")
    shenzhen(tmp_path / "ChinaSet_AllFiles")
    assert main(["import", str(tmp_path)]) == BAD_INPUT
    assert "has the folders of several sets: the Montgomery County set" in (
        refused := capsys.readouterr().err
    )
    assert refused.endswith("add --layout montgomery or --layout shenzhen\n")
    said, _ = imported(capsys, tmp_path, "--layout", "montgomery")
    assert "mask_left_lung: 6 of 6 images have one" in said
    assert {row["image"][:22] for row in table(tmp_path)} == {"MontgomerySet/CXR_png/"}
    for _ in range(2):  # what an import writes is no other set
        assert "read as the Montgomery County set" in imported(capsys, tmp_path / "MontgomerySet")[0]


@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_names_of_public_sets_may_be_in_small_letters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[str], str]
) -> None:
    for number, name in enumerate(("jpcln001", "jpcln002", "jpcnn001")):
        image(tmp_path / "jsrt" / "images" / f"{change(name)}.png", number)
        for structure in SCR:  # the case of masks does not depend on that of images
            mask(tmp_path / "jsrt" / f"fold{1 + number % 2}" / "masks" / structure / f"{name}.gif")
    said, _ = imported(capsys, tmp_path / "jsrt")
    assert "mask_heart: 3 of 3 images have one" in said
    assert [(row["patient_id"], row["pathology"]) for row in table(tmp_path / "jsrt")] == [
        ("JPCLN001", "nodule"), ("JPCLN002", "nodule"), ("JPCNN001", "normal"),
    ]  # fmt: skip
    image(tmp_path / "kermany" / change("normal") / "IM-0001-0001.jpeg")
    image(tmp_path / "kermany" / change("pneumonia") / "person1_virus_1.jpeg", 1)
    imported(capsys, tmp_path / "kermany", "--layout", "kermany")
    assert [row["pathology"] for row in table(tmp_path / "kermany")] == ["normal", "pathological"]


def test_shenzhen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        image(tmp_path / "ChinaSet_AllFiles" / "CXR_png" / f"CHNCXR_{number:04}_0.png", number)
        if number != 3:  # not all of its images have a mask
            mask(tmp_path / "mask" / "mask" / f"CHNCXR_{number:04}_0_mask.png")
    mask(tmp_path / "mask" / "mask" / "CHNCXR_0009_0_mask.png")
    image(tmp_path / "ChinaSet_AllFiles" / "CXR_png" / "other.png")
    said, section = imported(capsys, tmp_path)
    assert "mask_lungs: 5 of 6 images have one" in said
    assert "CHNCXR_0009_0_mask.png: warning: is the mask of no image" in said
    assert "other.png: warning: is not named as an image or a mask of the Shenzhen set" in said
    assert section["structures"] == {"lungs": "mask_lungs"}
    assert all(row["mask"] == row["mask_lungs"] for row in table(tmp_path))
    assert is_accepted(section, tmp_path)


def test_jsrt_with_scr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = np.tile(np.arange(2048), (2048, 1)).astype(">u2")
    for number, name in enumerate(("JPCLN001", "JPCLN002", "JPCNN001")):
        (tmp_path / "All247images").mkdir(exist_ok=True)
        (tmp_path / "All247images" / f"{name}.IMG").write_bytes(stored.tobytes())
        for structure in SCR:
            fold = tmp_path / "scratch" / f"fold{1 + number % 2}" / "masks" / structure
            mask(fold / f"{name}.gif", size=1024)
    said, section = imported(capsys, tmp_path)
    assert "3 images without a header are PNG files" in said
    assert section["structures"]["clavicles"] == ["left_clavicle", "right_clavicle"]
    assert {row["spacing_mm"] for row in table(tmp_path)} == {"0.35"}  # 0.175 mm at 2048 px
    assert [(row["image"], row["pathology"], row["fold"]) for row in table(tmp_path)] == [
        ("images_png/JPCLN001.png", "nodule", "1"),
        ("images_png/JPCLN002.png", "nodule", "2"),
        ("images_png/JPCNN001.png", "normal", "1"),
    ]
    picture = read_image(tmp_path / "images_png" / "JPCLN001.png").pixels
    assert picture.shape == (1024, 1024)  # that of the masks
    assert picture[0, 0] > picture[0, -1]
    assert ", 0 of them new" in imported(capsys, tmp_path)[0]


def test_kermany(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(("NORMAL/IM-0525-0001.jpeg", "PNEUMONIA/person88_virus_164.jpeg")):
        image(tmp_path / "train" / name, number)
    image(tmp_path / "test" / "PNEUMONIA" / "person88_bacteria_2.jpeg", 2)
    said, section = imported(capsys, tmp_path)
    assert "read as Kermany's set" in said
    assert section["read"] == []
    assert [(row["patient_id"], row["pathology"]) for row in table(tmp_path)] == [
        ("kermany-person88", "pathological"),
        ("kermany-IM-0525", "normal"),
        ("kermany-person88", "pathological"),
    ]


COHENS = """patientid,offset,age,finding,RT_PCR_positive,view,modality,folder,filename,license,other_notes,
7,0,29,Pneumonia/Viral/COVID-19,Y,PA,X-ray,images,a.jpg,CC BY,"one, two",
7,5,29,Pneumonia/Viral/SARS,,AP Supine,X-ray,images,b.jpg,,,
324a,,,Pneumonia/Bacterial/Klebsiella,,L,X-ray,images,c.png,,,
9,,4,No Finding,,AP,X-ray,images,d.jpg,,,
10,,60,Pneumonia/Lipoid,,AP,X-ray,images,gone.jpg,,,
11,,60,Pneumonia,,Axial,X-ray,images,e.jpg,,,
12,,60,Pneumonia,,Axial,CT,volumes,f.nii.gz,,,
"""
"""Rows as those of Cohen's table; some of its columns are left out."""


def cohen(folder: Path, rows: str = COHENS) -> Path:
    for number, name in enumerate(("a.jpg", "b.jpg", "c.png", "d.jpg", "e.jpg")):
        image(folder / "images" / name, number)
    (folder / "metadata.csv").write_text(rows)
    return folder


def test_cohens_collection(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said, section = imported(capsys, cohen(tmp_path))
    assert "read as Cohen's collection" in said
    assert "note: 1 images are no X-rays" in said
    assert [
        str(problem).removeprefix(f"{tmp_path}/images/") for problem in read_collection(tmp_path).left_out
    ] == [
        "gone.jpg: warning: there is no such image.",
        "e.jpg: warning: has the view 'Axial' and the patient '11'.",
    ]
    assert (section["root"], section["read"]) == (str(tmp_path / "images"), [])
    rows = table(tmp_path / "images")
    assert rows[0] == {
        "image": "a.jpg", "patient_id": "cohen-7", "pathology": "covid19", "projection": "frontal",
        "finding": "Pneumonia/Viral/COVID-19", "view": "PA", "age": "29", "license": "CC BY",
        "source": "cohen",
    }  # fmt: skip
    assert [(row["patient_id"], row["pathology"], row["projection"]) for row in rows[1:]] == [
        ("cohen-7", "viral", "frontal"),
        ("cohen-324a", "bacterial", "lateral"),
        ("cohen-9", "normal", "frontal"),
    ]


def test_a_table_that_is_not_cohens_is_told(tmp_path: Path) -> None:
    folder = cohen(tmp_path, COHENS.replace("modality", "kind"))
    assert not is_collection(folder)
    problems_of(DataError, read_collection, folder, match="has no column modality, as Cohen's collection has")
    cohen(tmp_path, COHENS.replace("images", "elsewhere"))
    problems_of(DataError, read_collection, folder, match="names no X-ray that is there")


def test_masks_of_several_structures_are_drawn_and_the_first_counts_where_they_overlap(
    tmp_path: Path,
) -> None:
    def column(*rows: slice) -> np.ndarray:
        values = np.zeros((4, 1), np.uint8)
        for each in rows:
            values[each] = 255
        return values

    left = mask(tmp_path / "left.png", column(slice(0, 2)))
    right, empty = mask(tmp_path / "right.png", column(slice(1, 3))), mask(tmp_path / "empty.png", column())
    larger = mask(tmp_path / "larger.png", size=5)
    shown = [image(tmp_path / f"{number}.png", number) for number in range(3)]
    listing = Listing(
        (
            Entry(shown[0], {"mask_a": left, "mask_b": right, "mask_c": empty}),
            Entry(shown[1], {"mask_a": left, "mask_b": right}),  # one part is missing
            Entry(shown[2], {"mask_a": left, "mask_b": larger, "mask_c": empty}),
        )
    )
    merged = with_merged(
        listing, {"mask": {"a": 85, "b": 170, "c": 255}, "mask_ab": {"b": 3, "a": 4}, "mask_d": {"a": 1}}
    )
    first, second, third = (entry.merged for entry in merged.images)
    assert read_labels(first["mask"]).values.ravel().tolist() == [85, 85, 170, 0]
    assert read_labels(second["mask_ab"]).values.ravel().tolist() == [4, 3, 3, 0]
    assert (second.keys(), second["mask_d"], third) == ({"mask_ab", "mask_d"}, left, {})
    assert [str(problem) for problem in merged.left_out] == [
        f"{larger}: warning: has another size than {left}."
    ]


def test_raw_pixels_are_big_endian_averaged_and_inverted(tmp_path: Path) -> None:
    raw = RawImages(".img", 4, ">u2", 12, shrink=2, inverted=True)
    values = np.array([[0, 4, 8, 8], [4, 0, 8, 8], [4095] * 4, [4095] * 4], ">u2")
    (tmp_path / "a.IMG").write_bytes(values.tobytes())
    assert pixels_of(tmp_path / "a.IMG", raw).tolist() == [[4093, 4087], [0, 0]]
    (tmp_path / "b.IMG").write_bytes(values.astype("<u2").tobytes())
    problems_of(DataError, pixels_of, tmp_path / "b.IMG", raw, match="has the value 65295; pixels of 12 bits")
    (tmp_path / "c.IMG").write_bytes(b"12")
    problems_of(DataError, pixels_of, tmp_path / "c.IMG", raw, match=r"has 2 bytes; 4x4 pixels .* have 32")


def test_an_image_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    folder = montgomery(tmp_path)
    image(folder / "copy" / "CXR_png" / "MCUCXR_0001_1.png")
    problems_of(
        DataError, read_public, folder, MONTGOMERY, match="is MCUCXR_0001_1, as .*; remove or move one"
    )
    problems_of(DataError, read_public, folder, JSRT, match="holds no images named as those of the JSRT set")


def test_masks_may_be_gif_files(tmp_path: Path) -> None:
    values = np.zeros((SIZE, SIZE), np.uint8)
    values[2:9] = 255
    Image.fromarray(values).save(tmp_path / "a.gif")
    assert (read_labels(tmp_path / "a.gif").values == values).all()
    assert (read_image(tmp_path / "a.gif").pixels == values).all()
    mask(tmp_path / "full.gif", np.full((SIZE, SIZE), 255, np.uint8))
    assert (read_labels(tmp_path / "full.gif").values == 255).all()  # its palette has no other colour
    frames = [Image.fromarray(values), Image.fromarray(255 - values)]
    frames[0].save(tmp_path / "b.gif", save_all=True, append_images=frames[1:])
    problems_of(DataError, read_image, tmp_path / "b.gif", match="holds 2 frames; a case is one frame")


@pytest.mark.parametrize(
    ("pack", "public", "folder", "suffix"),
    [("montgomery-512", MONTGOMERY, "ManualMask/leftMask", ""), ("shenzhen-512", SHENZHEN, "mask", "_mask")],
)
def test_real_names_are_understood(
    real_data: Path, tmp_path: Path, pack: str, public: object, folder: str, suffix: str
) -> None:
    expected = {}
    for row in read_table(real_data / pack / "metadata.csv").rows:
        picture, drawn = (real_data / pack / row.cells[name] for name in ("image", "mask"))
        for link, target in (
            (tmp_path / "CXR_png" / picture.name, picture),
            (tmp_path / folder / f"{drawn.stem}{suffix}{drawn.suffix}", drawn),
        ):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
        expected[picture.stem] = row.cells["pathology"]
    listing = read_public(tmp_path, public)
    assert {entry.cells["patient_id"]: entry.cells["pathology"] for entry in listing.images} == expected
    assert all(len(entry.masks) == 1 for entry in listing.images)
