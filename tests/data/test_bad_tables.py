"""Tables that cannot be used: each with its message, which says where, what was found, and what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.data.conftest import index_sections
from tests.data.spoils import Spoil, cell, drop_column, fields, no_file, remove, renamed_table, text
from xferlab.data.check import check_sections
from xferlab.errors import DataError

HEADER = "image,mask,patient_id,pathology,device"
INDEX = [
    (
        fields(root="/no/such/folder"),
        "/no/such/folder: there is no such folder. If `root` names an environment var",
    ),
    (fields(root="/" + "x" * 5000), "x: cannot be looked into: File name too long.$"),
    (fields(table="x" * 300), "/pack: cannot be looked into: File name too long.$"),
    (fields(table="\0"), "/pack/\0: there is no such table; tables there: metadata.csv. Name one wi"),
    (
        renamed_table("metadta.csv"),
        "no metadata.csv or metadata.parquet; tables there: metadta.csv. Name one with `table:`.",
    ),
    (
        remove("metadata.csv"),
        "no metadata.csv or metadata.parquet; no table is there. It needs the columns image, mask, patient_id"
        ", pathology, for example:\n  image,mask,patient_id,pathology\n  images/001.png,masks/001.png,P001,",
    ),
    (
        renamed_table("metadata.XLSX"),
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
    (no_file("images/4.png", os.mkfifo), "metadata.csv:6: .*images/4.png: Is no regular file.$"),
    (
        no_file("images/4.png", lambda path: path.symlink_to("4.png")),
        "metadata.csv:6: .*images/4.png: Too many levels of symbolic links.$",
    ),
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


def test_root_of_volumes_that_cannot_be_looked_into(section: Any, tmp_path: Path) -> None:
    config = section(source="lgg", root="/" + "x" * 5000)
    with pytest.raises(DataError, match=r"x: cannot be looked into: File name too long\.$"):
        index_sections({"mri": config}, memo_dir=tmp_path / "memo")


@pytest.mark.parametrize("source", ["phantom_mri", "lgg"])
def test_no_device_simulation_of_mri(section: Any, tmp_path: Path, source: str) -> None:
    fields = {"count": 4} if source == "phantom_mri" else {"root": str(tmp_path)}
    with pytest.raises(ValidationError, match="the simulation is for chest X-rays, whose images are grey"):
        section(source=source, simulate="portable", **fields)
