"""Bad data sets: each with its message, which says where, what was found, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xferlab.data.index import check_sections, index_sections
from xferlab.errors import DataError, Problem

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


def fields(**changes: Any) -> Spoil:
    return lambda folder: changes


HEADER = "image,mask,patient_id,pathology,device"
INDEX = [
    (fields(root="/no/such/folder"), "/no/such/folder: there is no such folder. Is the environment variable"),
    (rename_table, "no metadata.csv or metadata.parquet; tables there: metadta.csv. Name one with `table:`."),
    (remove("metadata.csv"), "no metadata.csv or metadata.parquet; no table is there."),
    (fields(table="metdata.csv"), "no metdata.csv; tables there: metadata.csv.*Did you mean 'metadata.csv'?"),
    (drop_column("pathology"), r"no column 'pathology' \(columns: image, mask, patient_id, other, device\)"),
    (drop_column("patient_id", rename="patient"), "no column 'patient_id'.*Did you mean 'patient'?"),
    (text(f"{HEADER}\n"), "metadata.csv: the table has no rows."),
    (text(""), r"no column 'image' \(columns: \)"),
    (text(f"{HEADER},device\n"), "columns stand twice: device."),
    (text(f"{HEADER}\na,b,c\n"), "metadata.csv:2: 3 cells for 5 columns; quote cells that contain commas."),
    (text(f"{HEADER}\n\xe4,b,c,d,e\n".encode("latin-1")), "metadata.csv: cannot be read as a table: .*utf-8"),
    (text(f'{HEADER}\na,b,"c'), "cannot be read as a table: unexpected end of data"),
    (cell(2, patient_id=" "), "metadata.csv:4: patient_id is empty; every case needs one."),
    (cell(2, pathology=""), "metadata.csv:4: pathology is empty; every case needs one."),
    (cell(2, mask=""), "metadata.csv:4: mask is empty; every case needs one."),
    (cell(2, image="/etc/passwd"), "metadata.csv:4: image '/etc/passwd' leaves the section's folder"),
    (cell(2, mask="masks/../../x.png"), "metadata.csv:4: mask .* leaves the section's folder; paths are rel"),
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


def broken(name: str) -> Spoil:
    return lambda folder: (folder.root / name).write_bytes(b"not an image") and None


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
    (image("masks/1.png", lambda m: m * 0), "warning", "data.general: images/1.png", "the mask is empty"),
    (image("images/1.png", lambda m: m * 0 + 9), "warning", "data.general: images/1.png", "one grey level"),
    (cell(1, image="images/0.png", mask="masks/0.png"), "warning", "csv:3", "only that row is used"),
    (same_picture, "warning", "data.general", "add `same_patient: [[p0, p1]]`"),
    (second_mask, "warning", "data.general", "one image has 2 different masks (images/0.png, images/1.png)"),
    (fields(same_patient=[["p1", "p99"]]), "warning", "data.general.same_patient", "patient_id 'p99'"),
]


@pytest.mark.parametrize(("spoil", "severity", "where", "what"), CHECK)
def test_check(folder: Any, tmp_path: Path, spoil: Spoil, severity: str, where: str, what: str) -> None:
    section = folder.section(**(spoil(folder) or {}))
    (problem,) = check_sections({"general": section}, memo_dir=tmp_path / "memo")
    assert problem.severity == severity
    assert problem.where.endswith(where)
    assert what in problem.what


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


def test_image_shared_by_two_sections(folder: Any, tmp_path: Path) -> None:
    same_picture(folder)
    sections = {
        "general": folder.section(where={"patient_id": "p1"}, shareable=True),
        "portable": folder.section(where={"device": "portable"}),
    }
    (problem,) = check_sections(sections, memo_dir=tmp_path / "memo")
    assert problem.where == "data.general, data.portable"
    assert problem.what.endswith("add `same_patient: [[p0, p1]]` to each of these sections.")


def test_good_data_has_no_findings(folder: Any, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    sections = {"general": folder.section(), "portable": folder.section(where={"device": "portable"})}
    found: list[Problem] = check_sections(
        sections, memo_dir=tmp_path / "memo", progress=lambda *call: calls.append(call)
    )
    assert found == []
    assert calls == [(n, 8) for n in range(1, 9)]


@pytest.mark.parametrize("source", ["phantom_mri", "lgg"])
def test_no_device_simulation_of_mri(section: Any, tmp_path: Path, source: str) -> None:
    fields = {"count": 4} if source == "phantom_mri" else {"root": str(tmp_path)}
    config = section(source=source, simulate="portable", **fields)
    with pytest.raises(DataError, match=f"data.mri.simulate: .*chest X-rays; a section of source {source}"):
        index_sections({"mri": config}, memo_dir=tmp_path / "memo")
