"""`check_sections`: everything wrong or odd about images and masks, each with its message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import index_sections
from tests.data.spoils import Spoil, cell, fields, link_out, remove
from tests.data.test_dicom import write as write_dicom
from xferlab.data.check import check_sections
from xferlab.errors import DataError, Problem


def image(name: str, pixels: Callable[[np.ndarray], np.ndarray], **options: Any) -> Spoil:
    def spoil(folder: Any) -> None:
        with Image.open(folder.root / name) as file:
            before = np.asarray(file)
        Image.fromarray(pixels(before)).save(folder.root / name, **options)

    return spoil


def noisy_mask(folder: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    Image.fromarray(noise).save(folder.root / "masks/1.png")


def turned(folder: Any, orientation: int = 6) -> None:
    with Image.open(folder.root / "images/1.png") as file:
        file.load()
    exif = file.getexif()
    exif[274] = orientation
    file.save(folder.root / "images/1.png", exif=exif)


def turned_mask(folder: Any) -> None:
    """A square image whose mask alone carries an orientation."""
    Image.new("L", (40, 40), 7).save(folder.root / "images/1.png")
    mask = Image.new("L", (40, 40))
    mask.paste(255, (0, 0, 20, 20))
    exif = mask.getexif()
    exif[274] = 6
    mask.save(folder.root / "masks/1.png", exif=exif)
    image("images/1.png", lambda m: m + np.arange(40, dtype=np.uint8))(folder)


def jpeg_mask(folder: Any) -> None:
    with Image.open(folder.root / "masks/1.png") as file:
        file.load()
    file.save(folder.root / "masks/1.png", "JPEG", quality=60)


def broken(name: str) -> Spoil:
    return lambda folder: (folder.root / name).write_bytes(b"not an image") and None


def pointer(name: str) -> Spoil:
    """What a checkout without git-LFS has in place of a file."""

    def spoil(folder: Any) -> None:
        (folder.root / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")

    return spoil


def pointer_to_dicom(folder: Any) -> None:
    pointer("images/1.dcm")(folder)
    cell(1, image="images/1.dcm")(folder)


def inverted(folder: Any) -> None:
    image("masks/1.png", lambda m: np.where(m == 127, 127, 255 - m).astype(np.uint8))(folder)


def same_mask(folder: Any) -> None:
    with Image.open(folder.root / "masks/1.png") as file:
        file.save(folder.root / "masks/2.png", compress_level=0)  # another file


def few_levels(folder: Any) -> None:
    image("images/1.png", lambda m: m // 31 * 31)(folder)


def absent_label(folder: Any) -> dict[str, Any]:
    return {"labels": {"lung": [9, 255, 3], "ignore": [127]}}


LFS = "It is a git-LFS pointer, not the file itself: run `git lfs pull` where it lies."


def same_picture(folder: Any) -> None:
    with Image.open(folder.root / "images/0.png") as file:
        file.save(folder.root / "images/1.png", compress_level=0)  # other bytes, equal pixels


def second_mask(folder: Any) -> None:
    same_picture(folder)
    folder.rows[1]["patient_id"] = "p0"
    folder.write()


CHECK = [
    (image("masks/1.png", lambda m: m[:-1]), "error", "masks/1.png", "the mask is 30x39 pixels, its image"),
    (turned, "error", "masks/1.png", "EXIF orientation that was applied; turn the mask alike"),
    (
        lambda f: turned(f, 3),
        "warning",
        "data.general: images/1.png",
        "the mask none: see that it lies on it",
    ),
    (
        turned_mask,
        "warning",
        "images/1.png",
        "the mask carries an EXIF orientation, which was applied, the image n",
    ),
    (
        image("masks/1.png", lambda m: np.where(m == 255, 254, np.where(m == 0, 1, m)).astype(np.uint8)),
        "error",
        "masks/1.png",
        "1 (1118 px), 254 (81 px) are in no label (accepted: 0, 127, 255). They look like JPEG compression",
    ),
    (
        image("masks/1.png", lambda m: (m == 255).astype(np.uint8)),
        "error",
        "1.png",
        "Name them under `labels:`",
    ),
    (jpeg_mask, "error", "masks/1.png", "The mask is a JPEG, which alters values: export it again as PNG."),
    (image("masks/1.png", lambda m: m * 0 + 255), "warning", "images/1.png", "the mask is full: every pixel"),
    (
        inverted,
        "warning",
        "data.general: images/1.png",
        "the structure fills 93% of the image and most of its",
    ),
    (
        same_mask,
        "warning",
        "data.general",
        "one mask stands for several different images (images/1.png, images/2.png",
    ),
    (
        few_levels,
        "warning",
        "images/1.png",
        "the image has only 9 grey levels; see whether its export lost",
    ),
    (absent_label, "warning", "data.general.labels", "no mask has the value 3, 9 of 'lung'."),
    (link_out, "warning", "data.general", "6 files lie outside of"),
    (
        cell(1, patient_id="NaN"),
        "warning",
        "data.general",
        "patient 'NaN' looks like a missing value; its 1 im",
    ),
    (
        cell(1, pathology="Normal"),
        "warning",
        "data.general",
        "pathologies 'Normal' and 'normal' differ in case",
    ),
    (image("masks/1.png", lambda m: m // 2), "error", "masks/1.png", "mask values 63 (1 px)"),
    (image("masks/1.png", lambda m: m.astype(np.uint16) * 2), "error", "masks/1.png", "254 (1 px), 510 ("),
    (noisy_mask, "error", "masks/1.png", "look like JPEG compression or smooth resizing"),
    (
        broken("images/1.png"),
        "error",
        "images/1.png",
        "is no PNG, JPEG, TIFF, BMP or DICOM file of a kind that can be read.",
    ),
    (
        broken("masks/1.png"),
        "error",
        "masks/1.png",
        "is no PNG, JPEG, TIFF, BMP or DICOM file of a kind that can be read.",
    ),
    (pointer("images/1.png"), "error", "images/1.png", f"of a kind that can be read. {LFS}"),
    (pointer("masks/1.png"), "error", "masks/1.png", f"of a kind that can be read. {LFS}"),
    (pointer_to_dicom, "error", "images/1.dcm", f"is no DICOM file although its name says so. {LFS}"),
    (image("masks/1.png", lambda m: m * 0), "warning", "data.general: images/1.png", "the mask is empty"),
    (image("images/1.png", lambda m: m * 0 + 9), "warning", "data.general: images/1.png", "one grey level"),
    (cell(1, image="images/0.png", mask="masks/0.png"), "warning", "csv:3", "only that row is used"),
    (same_picture, "warning", "data.general", "one image has different masks (images/0.png, images/1.png)"),
    (second_mask, "warning", "data.general", "one image has different masks (images/0.png, images/1.png)"),
    (fields(same_patient=[["p1", "p99"]]), "warning", "data.general.same_patient", "patient_id 'p99'"),
]


@pytest.fixture
def checked(folder: Any, tmp_path: Path) -> Callable[..., list[Problem]]:
    """Checks the folder as the section `general`."""

    def check(**changes: Any) -> list[Problem]:
        return check_sections({"general": folder.section(**changes)}, memo_dir=tmp_path / "memo")

    return check


@pytest.mark.parametrize(("spoil", "severity", "where", "what"), CHECK)
def test_check(folder: Any, checked: Any, spoil: Spoil, severity: str, where: str, what: str) -> None:
    (problem,) = checked(**(spoil(folder) or {}))
    assert problem.severity == severity
    assert problem.where.endswith(where)
    assert what in problem.what


def test_mask_that_ignores_everything(folder: Any, checked: Any) -> None:
    image("masks/1.png", lambda m: m * 0 + 127)(folder)
    problems = checked()
    assert "the mask ignores every pixel: nothing is learnt or measured here." in [p.what for p in problems]
    assert {p.severity for p in problems} == {"warning"}


def many(folder: Any, *, count: int = 20) -> None:
    folder.rows += [folder.add(number) for number in range(len(folder.rows), count)]
    folder.write()


def both(number: int, pixels: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    """Alters image and mask of a number."""

    def spoil(folder: Any) -> None:
        for kind in ("images", "masks"):
            image(f"{kind}/{number}.png", pixels)(folder)

    return spoil


def spaced(folder: Any) -> None:
    for number, row in enumerate(folder.rows):
        with Image.open(folder.root / row["image"]) as file:
            stored = np.asarray(file).astype(np.uint16)
        row["image"] = f"images/{number}.dcm"
        write_dicom(folder.root / row["image"], stored, PixelSpacing=[9.0 if number == 7 else 0.2] * 2)
    folder.write()


def one_patient(folder: Any) -> None:
    many(folder, count=60)
    for row in folder.rows[7:32]:
        row["patient_id"] = "p7"
    folder.write()


UNLIKE: list[tuple[Spoil, str, str]] = [
    (
        both(7, lambda m: m[::5, ::5]),
        "the image is 6x8 pixels, most of the section about 30x40.",
        "size",
    ),
    (
        both(7, lambda m: m[:, ::6]),
        "the image is 5x40 pixels, most of the section about 30x40.",
        "size",
    ),
    (
        image("masks/7.png", lambda m: m * (np.arange(40)[:, None] <= 11).astype(np.uint8)),
        "the structure fills 1.42% of the image, in most of the section about 7%.",
        "area",
    ),
    (spaced, "its pixel spacing is 9 x 9 mm, in most of the section about 0.2 mm.", "pixel spacing"),
    (
        one_patient,
        "patients have very many images ('p7' has 25), half of all at most 1. See that each is one person.",
        "many",
    ),
]


@pytest.mark.parametrize(("spoil", "what", "kind"), UNLIKE)
def test_what_is_unlike_all_others(folder: Any, checked: Any, spoil: Spoil, what: str, kind: str) -> None:
    many(folder)
    assert checked() == []
    spoil(folder)
    (problem,) = checked()
    assert (problem.what, problem.severity) == (what, "warning")
    assert kind in problem.kind


def test_a_label_may_occur_in_another_section_of_the_folder(folder: Any, tmp_path: Path) -> None:
    for number in (0, 3):
        image(f"masks/{number}.png", lambda m: np.where(m == 127, 0, m).astype(np.uint8))(folder)
    portable = folder.section(where={"device": "portable"})
    (problem,) = check_sections({"portable": portable}, memo_dir=tmp_path / "memo")
    assert problem.what == "no mask has the value 127 of 'ignore'."
    sections = {"fixed": folder.section(where={"device": "fixed"}), "portable": portable}
    assert check_sections(sections, memo_dir=tmp_path / "memo") == []


def test_a_simulated_device_hides_nothing(folder: Any, checked: Any) -> None:
    few_levels(folder)
    same_mask(folder)
    problems = checked(simulate="portable")
    assert {"masks of several images", "images of few grey levels"} <= {problem.kind for problem in problems}


def test_one_line_for_all_masks_of_several_images(folder: Any, checked: Any) -> None:
    many(folder)
    for number in range(10, 20):
        (folder.root / f"masks/{number}.png").write_bytes(
            (folder.root / f"masks/{number - 10}.png").read_bytes()
        )
    (problem,) = checked()
    shown = "images/0.png, images/10.png; images/1.png, images/11.png; images/12.png, images/2.png; "
    shown += "images/13.png, images/3.png"
    assert problem.what == (
        f"10 masks stand for several different images ({shown}; 6 more); each image needs its own."
    )


def test_equal_rows_in_other_files(folder: Any, checked: Any) -> None:
    for kind in ("images", "masks"):
        with Image.open(folder.root / f"{kind}/1.png") as file:
            file.save(folder.root / f"{kind}/2.png", compress_level=0)
    (problem,) = checked()
    assert problem.what == (
        "one image stands in the table twice, with the same mask (images/1.png, images/2.png); keep one row."
    )


def test_many_that_are_alike_are_a_group_of_their_own(folder: Any, checked: Any) -> None:
    many(folder)
    for number in range(10):
        both(number, lambda m: m.repeat(9, axis=0).repeat(9, axis=1))(folder)
    assert checked() == []


def test_names_in_any_script(folder: Any, tmp_path: Path, checked: Any) -> None:
    name = "images/фото 影像 é.png"
    (folder.root / "images/1.png").rename(folder.root / name)
    cell(1, image=name, patient_id="Ünal 7", pathology="肺炎")(folder)
    (folder.root / "metadata.csv").write_bytes(b"\xef\xbb\xbf" + (folder.root / "metadata.csv").read_bytes())
    assert checked() == []
    cases = index_sections({"general": folder.section()}, memo_dir=tmp_path / "memo")["general"]
    assert [(c.name, c.patient, c.pathology) for c in cases if c.name == name] == [(name, "Ünal 7", "肺炎")]


def test_one_patient_with_most_images(folder: Any, checked: Any) -> None:
    folder.rows += [folder.add(number) for number in range(6, 16)]
    for row in folder.rows[:10]:
        row["patient_id"] = "p0"
    folder.write()
    (problem,) = checked()
    assert (problem.where, problem.severity) == ("data.general", "warning")
    assert problem.what.startswith("patient 'p0' has 10 of 16 images, which all go to one part of a split.")


def test_all_findings_at_once(folder: Any, tmp_path: Path) -> None:
    for spoil in (
        broken("images/0.png"),
        broken("masks/0.png"),
        image("masks/1.png", lambda m: m[:-1]),
        remove("images/2.png"),
        image("masks/3.png", lambda m: m * 0),
        cell(5, patient_id=""),
    ):
        spoil(folder)
    sections = {"general": folder.section(), "none": folder.section(root=str(tmp_path / "absent"))}
    problems = check_sections(sections, memo_dir=tmp_path / "memo")
    assert sorted(Path(p.where).name for p in problems) == [
        "0.png", "0.png", "1.png", "3.png", "absent", "metadata.csv:4", "metadata.csv:7",
    ]  # fmt: skip
    with pytest.raises(DataError) as caught:
        index_sections(sections, memo_dir=tmp_path / "memo")
    assert [Path(p.where).name for p in caught.value.problems] == [
        "metadata.csv:7", "metadata.csv:4", "absent",
    ]  # fmt: skip


def test_blank_images_are_not_one_image(folder: Any, checked: Any) -> None:
    for number in (0, 1):
        Image.new("L", (30, 40), 7).save(folder.root / f"images/{number}.png")
    problems = checked()
    assert [p.what for p in problems] == ["the image has one grey level."] * 2


def test_good_data_has_no_findings(folder: Any, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    sections = {"general": folder.section(), "portable": folder.section(where={"device": "portable"})}
    problems: list[Problem] = check_sections(
        sections, memo_dir=tmp_path / "memo", progress=lambda *call: calls.append(call)
    )
    assert problems == []
    assert calls == [(n, 8) for n in range(1, 9)]
