"""`check_sections`: everything wrong or odd about images and masks, each with its message."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import index_sections
from tests.data.spoils import Spoil, cell, fields, link_out, pixels, remove, resaved, several, write
from tests.data.test_dicom import write as write_dicom
from tests.refusals import problems_of
from xferlab.cohort import Case
from xferlab.data.check import check_sections
from xferlab.data.plausibility import Observation, implausible
from xferlab.errors import DataError, Problem


def noise(mask: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, mask.shape, dtype=np.uint8)


def pointer(name: str) -> Spoil:
    """What a checkout without git-LFS has in place of a file."""
    return write(name, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")


def inverted(mask: np.ndarray) -> np.ndarray:
    return np.where(mask == 127, 127, 255 - mask).astype(np.uint8)


# Other files with equal pixels.
SAME_MASK = resaved("masks/1.png", "masks/2.png", compress_level=0)
SAME_PICTURE = resaved("images/0.png", "images/1.png", compress_level=0)
FEW_LEVELS = pixels("images/1.png", lambda m: m // 31 * 31)
TURNED_MASK = several(
    *[pixels(f"{kind}/1.png", lambda m: np.resize(m, (40, 40))) for kind in ("images", "masks")],
    resaved("masks/1.png", orientation=6),
)


LFS = "It is a git-LFS pointer, not the file itself: run `git lfs pull` where it lies."


CHECK = [
    (pixels("masks/1.png", lambda m: m[:-1]), "error", "masks/1.png", "the mask is 30x39 pixels, its image"),
    (
        resaved("images/1.png", orientation=6),
        "error",
        "masks/1.png",
        "EXIF orientation that was applied; turn the mask alike",
    ),
    (
        resaved("images/1.png", orientation=3),
        "warning",
        "data.general: images/1.png",
        "the mask none: see that it lies on it",
    ),
    (
        TURNED_MASK,
        "warning",
        "images/1.png",
        "the mask carries an EXIF orientation, which was applied, the image n",
    ),
    (
        pixels("masks/1.png", lambda m: np.where(m == 255, 254, np.where(m == 0, 1, m)).astype(np.uint8)),
        "error",
        "masks/1.png",
        "1 (1118 px), 254 (81 px) are in no label (accepted: 0, 127, 255). They look like JPEG compression",
    ),
    (
        pixels("masks/1.png", lambda m: (m == 255).astype(np.uint8)),
        "error",
        "1.png",
        "Name them under `labels:`",
    ),
    (
        resaved("masks/1.png", format="JPEG", quality=60),
        "error",
        "masks/1.png",
        "The mask is a JPEG, which alters values: export it again as PNG.",
    ),
    (
        pixels("masks/1.png", lambda m: m * 0 + 255),
        "warning",
        "images/1.png",
        "the mask is full: every pixel",
    ),
    (
        pixels("masks/1.png", inverted),
        "warning",
        "data.general: images/1.png",
        "the structure fills 93% of the image and most of its",
    ),
    (
        SAME_MASK,
        "warning",
        "data.general",
        "one mask stands for several different images (images/1.png, images/2.png",
    ),
    (
        FEW_LEVELS,
        "warning",
        "images/1.png",
        "the image has only 9 grey levels; see whether its export lost",
    ),
    (
        fields(labels={"lung": [9, 255, 3], "ignore": [127]}),
        "warning",
        "data.general.labels",
        "no mask has the value 3, 9 of 'lung'.",
    ),
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
    (pixels("masks/1.png", lambda m: m // 2), "error", "masks/1.png", "mask values 63 (1 px)"),
    (pixels("masks/1.png", lambda m: m.astype(np.uint16) * 2), "error", "masks/1.png", "254 (1 px), 510 ("),
    (pixels("masks/1.png", noise), "error", "masks/1.png", "look like JPEG compression or smooth resizing"),
    (
        write("images/1.png", b"not an image"),
        "error",
        "images/1.png",
        "is no PNG, JPEG, TIFF, BMP, GIF, DICOM or NIfTI file of a kind that can be read.",
    ),
    (
        write("masks/1.png", b"not an image"),
        "error",
        "masks/1.png",
        "is no PNG, JPEG, TIFF, BMP, GIF, DICOM or NIfTI file of a kind that can be read.",
    ),
    (pointer("images/1.png"), "error", "images/1.png", f"of a kind that can be read. {LFS}"),
    (pointer("masks/1.png"), "error", "masks/1.png", f"of a kind that can be read. {LFS}"),
    (
        several(pointer("images/1.dcm"), cell(1, image="images/1.dcm")),
        "error",
        "images/1.dcm",
        f"is no DICOM file although its name says so. {LFS}",
    ),
    (pixels("masks/1.png", lambda m: m * 0), "warning", "data.general: images/1.png", "the mask is empty"),
    (pixels("images/1.png", lambda m: m * 0 + 9), "warning", "data.general: images/1.png", "one grey level"),
    (cell(1, image="images/0.png", mask="masks/0.png"), "warning", "csv:3", "only that row is used"),
    (SAME_PICTURE, "warning", "data.general", "one image has different masks (images/0.png, images/1.png)"),
    (
        several(SAME_PICTURE, cell(1, patient_id="p0")),
        "warning",
        "data.general",
        "one image has different masks (images/0.png, images/1.png)",
    ),
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
    pixels("masks/1.png", lambda m: m * 0 + 127)(folder)
    problems = checked()
    assert "the mask ignores every pixel: nothing is learnt or measured here." in [p.what for p in problems]
    assert {p.severity for p in problems} == {"warning"}


def many(folder: Any, *, count: int = 20) -> None:
    folder.rows += [folder.add(number) for number in range(len(folder.rows), count)]
    folder.write()


def both(number: int, change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    """Alters image and mask of a number."""
    return several(*[pixels(f"{kind}/{number}.png", change) for kind in ("images", "masks")])


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
        pixels("masks/7.png", lambda m: m * (np.arange(40)[:, None] <= 11).astype(np.uint8)),
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
        pixels(f"masks/{number}.png", lambda m: np.where(m == 127, 0, m).astype(np.uint8))(folder)
    portable = folder.section(where={"device": "portable"})
    (problem,) = check_sections({"portable": portable}, memo_dir=tmp_path / "memo")
    assert problem.what == "no mask has the value 127 of 'ignore'."
    sections = {"fixed": folder.section(where={"device": "fixed"}), "portable": portable}
    assert check_sections(sections, memo_dir=tmp_path / "memo") == []


def test_a_simulated_device_hides_nothing(folder: Any, checked: Any) -> None:
    several(FEW_LEVELS, SAME_MASK)(folder)
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
    several(SAME_MASK, resaved("images/1.png", "images/2.png", compress_level=0))(folder)
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


def test_all_findings_at_once(folder: Any, tmp_path: Path) -> None:
    several(
        write("images/0.png", b"not an image"),
        write("masks/0.png", b"not an image"),
        pixels("masks/1.png", lambda m: m[:-1]),
        remove("images/2.png"),
        pixels("masks/3.png", lambda m: m * 0),
        cell(5, patient_id=""),
    )(folder)
    sections = {"general": folder.section(), "none": folder.section(root=str(tmp_path / "absent"))}
    problems = check_sections(sections, memo_dir=tmp_path / "memo")
    assert sorted(Path(p.where).name for p in problems) == [
        "0.png", "0.png", "1.png", "3.png", "absent", "metadata.csv:4", "metadata.csv:7",
    ]  # fmt: skip
    refused = problems_of(DataError, index_sections, sections, memo_dir=tmp_path / "memo")
    assert [Path(p.where).name for p in refused] == [
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


def observation(number: int, *, share: float, image: str) -> Observation:
    return Observation(
        Case(f"{number:064x}", f"{number}.png", f"p{number}", "normal"),
        image=image,
        mask=f"mask of {image}",
        shape=(40, 30),
        spacing_mm=None,
        levels=256,
        share=share,
        has=(True,),
        seems_inverted=share > 0.5,
        values=frozenset({("lung", 255)}),
        has_remark=False,
    )


def test_thousands_of_inverted_masks_and_repeated_images_are_found_soon() -> None:
    inverted = [observation(n, share=0.9, image=f"image {n}") for n in range(4000)]
    repeated = [observation(n, share=0.3, image=f"image {n // 2}") for n in range(10_000, 18_000)]
    twice = observation(20_000, share=0.3, image="a"), observation(20_001, share=0.3, image="a")
    for entry, mask in zip(twice, ("left", "right"), strict=True):
        object.__setattr__(entry, "mask", mask)
    start_s = time.process_time()
    problems = implausible("s", [*inverted, *repeated, *twice], empty_targets=False)
    assert time.process_time() - start_s < 1
    assert [problem.kind for problem in problems] == [
        "images with several masks",
        "repeated images",
        *["masks that seem inverted"] * 4000,
    ]
    assert problems[0].what.startswith("one image has different masks (20000.png, 20001.png)")
    assert problems[1].what.startswith("4000 images stand in the table twice")
