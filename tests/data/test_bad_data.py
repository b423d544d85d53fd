"""Bad data sets: each with its message, which says where, what was found, and what to do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from tests.data.test_dicom import write as write_dicom
from xferlab.errors import DataError, Problem
from xferlab.leakage.index import check_sections, index_sections

Spoil = Callable[[Any], dict[str, Any] | None]


def drop_column(name: str, *, rename: str | None = None) -> Spoil:
    def spoil(folder: Any) -> None:
        header, *rest = (folder.root / "metadata.csv").read_text().splitlines()
        columns = header.split(",")
        columns[columns.index(name)] = rename or "other"
        (folder.root / "metadata.csv").write_text("\n".join([",".join(columns), *rest]))

    return spoil


def cell(row: int, **values: str) -> Spoil:
    def spoil(folder: Any) -> None:
        folder.rows[row] |= values
        folder.write()

    return spoil


def text(content: str | bytes) -> Spoil:
    def spoil(folder: Any) -> None:
        data = content if isinstance(content, bytes) else content.encode()
        (folder.root / "metadata.csv").write_bytes(data)

    return spoil


def remove(name: str) -> Spoil:
    def spoil(folder: Any) -> None:
        (folder.root / name).unlink()

    return spoil


def rename_table(folder: Any) -> None:
    (folder.root / "metadata.csv").rename(folder.root / "metadta.csv")


def no_table(folder: Any) -> None:
    (folder.root / "metadata.csv").rename(folder.root / "metadata.XLSX")


def pipe(folder: Any) -> None:
    remove("images/4.png")(folder)
    os.mkfifo(folder.root / "images/4.png")


def loop(folder: Any) -> None:
    remove("images/4.png")(folder)
    (folder.root / "images/4.png").symlink_to("4.png")


def link_out(folder: Any) -> None:
    (folder.root / "masks").rename(folder.root.parent / "elsewhere")
    (folder.root / "masks").symlink_to(folder.root.parent / "elsewhere")


def fields(**changes: Any) -> Spoil:
    return lambda folder: changes


HEADER = "image,mask,patient_id,pathology,device"
INDEX = [
    (
        fields(root="/no/such/folder"),
        "/no/such/folder: there is no such folder. If `root` names an environment var",
    ),
    (fields(root="/" + "x" * 5000), "x: cannot be looked into: File name too long.$"),
    (fields(table="x" * 300), "/pack: cannot be looked into: File name too long.$"),
    (fields(table="\0"), "/pack/\0: there is no such table; tables there: metadata.csv. Name one wi"),
    (rename_table, "no metadata.csv or metadata.parquet; tables there: metadta.csv. Name one with `table:`."),
    (
        remove("metadata.csv"),
        "no metadata.csv or metadata.parquet; no table is there. It needs the columns image, mask, patient_id"
        ", pathology, for example:\n  image,mask,patient_id,pathology\n  images/001.png,masks/001.png,P001,",
    ),
    (
        no_table,
        "no metadata.csv or metadata.parquet; save metadata.XLSX as metadata.csv .UTF-8, separated by",
    ),
    (
        fields(table="metdata.csv"),
        "/pack/metdata.csv: there is no such table; tables.*Did you mean 'metadata.csv'?",
    ),
    (drop_column("pathology"), r"no column 'pathology' \(columns: image, mask, patient_id, other, device\)"),
    (drop_column("patient_id", rename="patient"), "no column 'patient_id'.*Did you mean 'patient'?"),
    (text(f"{HEADER}\n"), "metadata.csv: the table has no rows."),
    (text(""), r"no column 'image' \(columns: \)"),
    (
        text(HEADER.replace(",", "|")),
        r"metadata.csv: its columns look separated by '\|' \('image\|mask\|pat.*commas",
    ),
    (
        text(f"{HEADER}\n".encode("utf-16")),
        "read as a table: .*codec can't decode.* Save it as CSV .UTF-8, sep",
    ),
    (text(f"{HEADER}\n{'x' * 200_000},b,c,d,e\n"), "cannot be read as a table: field larger than .*Save it"),
    (text(f"{HEADER},device\n"), "columns stand twice: device."),
    (text(f"{HEADER}\na,b,c\n"), "metadata.csv:2: 3 cells for 5 columns; quote cells that contain commas."),
    (text(f"{HEADER}\n\xe4,b,c,d,e\n".encode("latin-1")), "metadata.csv: cannot be read as a table: .*utf-8"),
    (text(f'{HEADER}\na,b,"c'), "cannot be read as a table: unexpected end of data"),
    (cell(2, patient_id=" "), "metadata.csv:4: patient_id is empty; every case needs one."),
    (cell(2, pathology=""), "metadata.csv:4: pathology is empty; every case needs one."),
    (cell(2, mask=""), "metadata.csv:4: mask is empty; every case needs one."),
    (cell(2, image="/etc/passwd"), "metadata.csv:4: image '/etc/passwd' leaves the section's folder"),
    (cell(2, mask="masks/../../x.png"), "metadata.csv:4: mask .* leaves the section's folder; paths are rel"),
    (
        cell(2, image="images/\0.png"),
        r"metadata.csv:4: image 'images/\\x00.png' holds a line break or another con",
    ),
    (
        cell(2, mask="a\nb.png"),
        r"metadata.csv:5: mask 'a\\nb.png' holds a line break or another control charac",
    ),
    (
        cell(2, patient_id="p\r2"),
        r"metadata.csv:\d: patient_id 'p\\r2' holds a line break or another control",
    ),
    (cell(2, image="C:\\images\\2.png"), r"metadata.csv:4: image 'C:/images/2.png' leaves the section's fol"),
    (cell(2, mask="..\\masks\\2.png"), r"metadata.csv:4: mask '../masks/2.png' leaves the section's folder"),
    (cell(4, image="Images/4.png"), "metadata.csv:6: .*Images/4.png: No such file or directory.$"),
    (cell(4, image="images/4.PNG"), "/4.PNG: No such file or directory. Did you mean 'images/4.png'[?]$"),
    (cell(4, image="x" * 300), "metadata.csv:6: .*xxx: File name too long.$"),
    (cell(4, image="images/4.png/x"), "metadata.csv:6: .*: Not a directory.$"),
    (pipe, "metadata.csv:6: .*images/4.png: Is no regular file.$"),
    (loop, "metadata.csv:6: .*images/4.png: Too many levels of symbolic links.$"),
    (remove("images/4.png"), "metadata.csv:6: .*images/4.png: No such file or directory."),
    (cell(4, mask="masks"), "metadata.csv:6: .*masks: Is a directory."),
    (fields(where={"devcie": "fixed"}), "where.devcie: .* has no such column.*Did you mean 'device'?"),
    (
        fields(where={"device": "portabel"}),
        r"has 'portabel' \(values: 'fixed', 'portable'\). Did you mean 'por",
    ),
    (fields(where={"device": ["fixed", "mobile"]}), r"data.general.where.device: no row .* has 'mobile'"),
    (
        fields(where={"device": "portable", "patient_id": "p1"}, shareable=True),
        "data.general.where: no row .* passes all of",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), INDEX)
def test_index(folder: Any, tmp_path: Path, spoil: Spoil, message: str) -> None:
    section = folder.section(**(spoil(folder) or {}))
    with pytest.raises(DataError, match=message):
        index_sections({"general": section}, memo_dir=tmp_path / "memo")
    assert check_sections({"general": section}, memo_dir=tmp_path / "memo")


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
        "is no PNG, JPEG, TIFF or DICOM file of a kind that can be read.",
    ),
    (
        broken("masks/1.png"),
        "error",
        "masks/1.png",
        "is no PNG, JPEG, TIFF or DICOM file of a kind that can be read.",
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


@pytest.mark.parametrize(("spoil", "severity", "where", "what"), CHECK)
def test_check(folder: Any, tmp_path: Path, spoil: Spoil, severity: str, where: str, what: str) -> None:
    section = folder.section(**(spoil(folder) or {}))
    (problem,) = check_sections({"general": section}, memo_dir=tmp_path / "memo")
    assert problem.severity == severity
    assert problem.where.endswith(where)
    assert what in problem.what


def test_mask_that_ignores_everything(folder: Any, tmp_path: Path) -> None:
    image("masks/1.png", lambda m: m * 0 + 127)(folder)
    found = check_sections({"general": folder.section()}, memo_dir=tmp_path / "memo")
    assert "the mask ignores every pixel: nothing is learnt or measured here." in [p.what for p in found]
    assert {p.severity for p in found} == {"warning"}


def many(folder: Any, *, count: int = 20) -> None:
    folder.rows += [folder.add(number) for number in range(len(folder.rows), count)]
    folder.write()


def lone(folder: Any, pixels: Callable[[np.ndarray], np.ndarray]) -> None:
    """Alters image and mask 7."""
    image("images/7.png", pixels)(folder)
    image("masks/7.png", pixels)(folder)


def small_area(folder: Any) -> None:
    image("masks/7.png", lambda m: np.where(np.arange(40)[:, None] > 11, m // 255 * 0, m).astype(np.uint8))(
        folder
    )


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
        lambda f: lone(f, lambda m: m[::5, ::5]),
        "the image is 6x8 pixels, most of the section about 30x40.",
        "size",
    ),
    (
        lambda f: lone(f, lambda m: m[:, ::6]),
        "the image is 5x40 pixels, most of the section about 30x40.",
        "size",
    ),
    (small_area, "the structure fills 1.42% of the image, in most of the section about 7%.", "area"),
    (spaced, "its pixel spacing is 9 x 9 mm, in most of the section about 0.2 mm.", "pixel spacing"),
    (
        one_patient,
        "patients have very many images ('p7' has 25), half of all at most 1. See that each is one person.",
        "many",
    ),
]


@pytest.mark.parametrize(("spoil", "what", "kind"), UNLIKE)
def test_what_is_unlike_all_others(folder: Any, tmp_path: Path, spoil: Spoil, what: str, kind: str) -> None:
    many(folder)
    assert check_sections({"general": folder.section()}, memo_dir=tmp_path / "memo") == []
    spoil(folder)
    (problem,) = check_sections({"general": folder.section()}, memo_dir=tmp_path / "memo")
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


def test_a_simulated_device_hides_nothing(folder: Any, tmp_path: Path) -> None:
    few_levels(folder)
    same_mask(folder)
    found = check_sections({"general": folder.section(simulate="portable")}, memo_dir=tmp_path / "memo")
    assert {"masks of several images", "images of few grey levels"} <= {problem.kind for problem in found}


def test_one_line_for_all_masks_of_several_images(folder: Any, tmp_path: Path) -> None:
    many(folder)
    for number in range(10, 20):
        (folder.root / f"masks/{number}.png").write_bytes(
            (folder.root / f"masks/{number - 10}.png").read_bytes()
        )
    (problem,) = check_sections({"general": folder.section()}, memo_dir=tmp_path / "memo")
    shown = "images/0.png, images/10.png; images/1.png, images/11.png; images/12.png, images/2.png; "
    shown += "images/13.png, images/3.png"
    assert problem.what == (
        f"10 masks stand for several different images ({shown}; 6 more); each image needs its own."
    )


def test_equal_rows_in_other_files(folder: Any, tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        with Image.open(folder.root / f"{kind}/1.png") as file:
            file.save(folder.root / f"{kind}/2.png", compress_level=0)
    (problem,) = check_sections({"general": folder.section()}, memo_dir=tmp_path / "memo")
    assert problem.what == (
        "one image stands in the table twice, with the same mask (images/1.png, images/2.png); keep one row."
    )


def test_many_that_are_alike_are_a_group_of_their_own(folder: Any, tmp_path: Path) -> None:
    many(folder)
    for number in range(10):
        for kind in ("images", "masks"):
            image(f"{kind}/{number}.png", lambda m: m.repeat(9, axis=0).repeat(9, axis=1))(folder)
    assert check_sections({"general": folder.section()}, memo_dir=tmp_path / "memo") == []


def test_names_in_any_script(folder: Any, tmp_path: Path) -> None:
    name = "images/фото 影像 é.png"
    (folder.root / "images/1.png").rename(folder.root / name)
    cell(1, image=name, patient_id="Ünal 7", pathology="肺炎")(folder)
    (folder.root / "metadata.csv").write_bytes(b"\xef\xbb\xbf" + (folder.root / "metadata.csv").read_bytes())
    assert check_sections({"general": folder.section()}, memo_dir=tmp_path / "memo") == []
    cases = index_sections({"general": folder.section()}, memo_dir=tmp_path / "memo")["general"]
    assert [(c.name, c.patient, c.pathology) for c in cases if c.name == name] == [(name, "Ünal 7", "肺炎")]


def test_one_patient_with_most_images(folder: Any, tmp_path: Path) -> None:
    folder.rows += [folder.add(number) for number in range(6, 16)]
    for row in folder.rows[:10]:
        row["patient_id"] = "p0"
    folder.write()
    (problem,) = check_sections({"general": folder.section()}, memo_dir=tmp_path / "memo")
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
    found = check_sections(sections, memo_dir=tmp_path / "memo")
    assert sorted(Path(p.where).name for p in found) == [
        "0.png", "0.png", "1.png", "3.png", "absent", "metadata.csv:4", "metadata.csv:7",
    ]  # fmt: skip
    with pytest.raises(DataError) as caught:
        index_sections(sections, memo_dir=tmp_path / "memo")
    assert [Path(p.where).name for p in caught.value.problems] == [
        "metadata.csv:7", "metadata.csv:4", "absent",
    ]  # fmt: skip


def test_blank_images_are_not_one_image(folder: Any, tmp_path: Path) -> None:
    for number in (0, 1):
        Image.new("L", (30, 40), 7).save(folder.root / f"images/{number}.png")
    found = check_sections({"general": folder.section()}, memo_dir=tmp_path / "memo")
    assert [p.what for p in found] == ["the image has one grey level."] * 2


def test_good_data_has_no_findings(folder: Any, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    sections = {"general": folder.section(), "portable": folder.section(where={"device": "portable"})}
    found: list[Problem] = check_sections(
        sections, memo_dir=tmp_path / "memo", progress=lambda *call: calls.append(call)
    )
    assert found == []
    assert calls == [(n, 8) for n in range(1, 9)]


def test_root_of_volumes_that_cannot_be_looked_into(section: Any, tmp_path: Path) -> None:
    config = section(source="lgg", root="/" + "x" * 5000)
    with pytest.raises(DataError, match=r"x: cannot be looked into: File name too long\.$"):
        index_sections({"mri": config}, memo_dir=tmp_path / "memo")


@pytest.mark.parametrize("source", ["phantom_mri", "lgg"])
def test_no_device_simulation_of_mri(section: Any, tmp_path: Path, source: str) -> None:
    fields = {"count": 4} if source == "phantom_mri" else {"root": str(tmp_path)}
    with pytest.raises(ValidationError, match="the simulation is for chest X-rays, whose images are grey"):
        section(source=source, simulate="portable", **fields)
