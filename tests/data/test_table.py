"""Tables: the same rows from every way to write them, and a message for what cannot be used."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from tests.data.conftest import index_sections
from tests.data.spoils import Spoil, cell, drop_column, fields, no_file, remove, renamed_table, text
from tests.refusals import problems_of
from xferlab.data.check import check_sections
from xferlab.data.sources.manifest import table
from xferlab.data.sources.manifest.table import Nearest, outside, read_table
from xferlab.errors import DataError

TEXT = 'image,mask,patient_id,pathology\na.png,b.png,"Doe, J",normal\n c.png ,d.png,é,covid19\n'
CELLS = [("a.png", "b.png", "Doe, J", "normal"), ("c.png", "d.png", "é", "covid19")]


def cells(path: Path) -> list[tuple[str, ...]]:
    return [tuple(row.cells.values()) for row in read_table(path).rows]


def refusal(path: Path) -> str:
    problems = problems_of(DataError, read_table, path)
    assert {problem.where for problem in problems} == {str(path)}
    return " ".join(problem.what for problem in problems)


WRITTEN = {
    **{
        repr(end + mark): (mark + TEXT.replace("\n", end))
        for end in ("\n", "\r\n", "\r")
        for mark in ("", "\ufeff")
    },
    **{
        repr(mark): TEXT.replace("Doe,", "Doe_").replace(",", mark).replace("Doe_", "Doe,")
        for mark in (";", "\t")
    },
    "empty cells": TEXT.replace("\n", ",,\n"),
    "empty rows": TEXT + ",,,\n,,,\n",
    "empty cells of a column": TEXT.replace("pathology\n", "pathology,\n")
    .replace("normal\n", "normal, ,\n")
    .replace("19\n", "19,,,\n"),
    "an empty column": TEXT.replace("patient_id", ",patient_id")
    .replace('"Doe', ',"Doe')
    .replace(",é", ",,é"),
}


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_line_ends_separators_and_empty_cells_of_spreadsheets_change_nothing(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "metadata.csv"
    path.write_bytes(text.encode())
    assert cells(path) == CELLS
    table = read_table(path)
    assert table.columns == ("image", "mask", "patient_id", "pathology")
    assert [row.where for row in table.rows] == [f"{path}:2", f"{path}:3"]


def test_a_row_after_a_quoted_line_break_has_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text(TEXT.replace("Doe, J", "Doe\nJ"))
    assert [row.where for row in read_table(path).rows] == [f"{path}:3", f"{path}:4"]


def write_parquet(path: Path, **columns: Any) -> Path:
    plain = {name: pa.array([name]) for name in ("image", "mask", "patient_id", "pathology")}
    pq.write_table(pa.table(plain | {name: pa.array(*value) for name, value in columns.items()}), path)
    return path


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (([1676519],), "1676519"),
        (([1676519.0],), "1676519"),
        (([1.5],), "1.5"),
        (([float("nan")],), ""),
        (([float("inf")],), "inf"),
        (([None], pa.string()), ""),
        (([True],), "true"),
        ((["x "], pa.large_string()), "x"),
        (([0], pa.timestamp("s")), "1970-01-01 00:00:00"),
        (([[1, 2]],), "[1, 2]"),
    ],
)
def test_every_value_of_parquet_is_text(tmp_path: Path, value: Any, text: str) -> None:
    (row,) = read_table(write_parquet(tmp_path / "a.parquet", patient_id=value)).rows
    assert row.cells["patient_id"] == text


def test_dates_that_python_does_not_have(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", day=([2**62], pa.timestamp("us")))
    assert "cannot be read as a table: date value out of range." in refusal(path)


def test_text_that_is_no_utf_8(tmp_path: Path) -> None:
    offsets, data = pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe")
    broken = pa.Array.from_buffers(pa.string(), 1, [None, offsets, data])
    plain = {name: pa.array([name]) for name in ("mask", "patient_id", "pathology")}
    pq.write_table(pa.table({"image": broken} | plain), tmp_path / "a.parquet")
    assert "cannot be read as a table: 'utf-8' codec" in refusal(tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["a.parquet", "a.csv"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_other_content(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / name)


def test_rows_that_unpack_without_end_are_refused_before(tmp_path: Path) -> None:
    codes = pa.array(np.zeros(table.MAX_ROWS + 1, np.int32))
    column = pa.DictionaryArray.from_arrays(codes, pa.array(["x"]))
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(dict.fromkeys(("image", "mask", "patient_id", "pathology"), column)), path)
    assert path.stat().st_size < 20_000
    assert refusal(path) == "has more than 1,000,000 rows. Divide it into several sections."


def test_rows_of_a_csv_are_counted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_ROWS", 2)
    path = tmp_path / "metadata.csv"
    path.write_text(TEXT)
    assert cells(path) == CELLS
    path.write_text(TEXT + "e,f,g,h\n")
    assert refusal(path) == "has more than 2 rows. Divide it into several sections."


HEADER = "image,mask,patient_id,pathology"


def test_row_numbers_of_pandas_are_a_column_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text(f",{HEADER}\n0,a,b,p,n\n1,c,d,q,n\n")
    assert [row[1:] for row in cells(path)] == [("a", "b", "p", "n"), ("c", "d", "q", "n")]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (f"{HEADER},,\na,b,Doe, J,normal,\n", "6 cells for 4 columns; quote cells that contain commas."),
        (f"{HEADER},,x\na,b,p,n,y,z\n", "'y' stands in column 5, which has no name; name it or empty it."),
        (f"{HEADER},,x\na,b,p,n\n", "4 cells for 6 columns; quote cells that contain commas."),
    ],
)
def test_values_in_columns_without_a_name_are_refused(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text(text)
    (problem,) = problems_of(DataError, read_table, path)
    assert (problem.where, problem.what) == (f"{path}:2", what)


def test_empty_columns_and_rows(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text(f"{HEADER}\na,,p,n\nb,,q,n\n")
    assert len(read_table(path).rows) == 2
    with pytest.raises(
        DataError, match="'mask' is empty in all 2 rows; set `read: \\[\\]` if there are no masks"
    ):
        read_table(path, ["mask"])
    path.write_text(f"{HEADER}\na,b,,n\nb,b,,n\n")
    assert refusal(path) == "the column 'patient_id' is empty in all 2 rows; every case needs one."
    path.write_text(f"{HEADER}\n,,,\n")
    assert refusal(path) == "the table has no rows."
    empty = {name: pa.array(["x", None]) for name in HEADER.split(",")}
    pq.write_table(pa.table(empty), tmp_path / "a.parquet")
    assert len(read_table(tmp_path / "a.parquet").rows) == 1


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "It is a git-LFS pointer, not the file",
        ),
        (b"PK\3\4", "is a spreadsheet file; save the sheet as CSV (UTF-8, separated by commas)."),
        (b"\xd0\xcf\x11\xe0", "is a spreadsheet file; save the sheet as CSV (UTF-8, separated by commas)."),
    ],
)
def test_other_files_are_named(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert what in refusal(tmp_path / name)


WITH_DEVICE = "image,mask,patient_id,pathology,device"
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
        "no metadata.csv or metadata.parquet; no table is there. It needs the columns image, patient_id "
        "and those of masks, for example:\n  image,mask,patient_id,pathology\n  images/001.png,masks/001.pn",
    ),
    (
        renamed_table("metadata.XLSX"),
        "no metadata.csv or metadata.parquet; save metadata.XLSX as metadata.csv .UTF-8, separated by",
    ),
    (
        fields(table="metdata.csv"),
        "/pack/metdata.csv: there is no such table; tables.*Did you mean 'metadata.csv'?",
    ),
    (
        drop_column("mask"),
        r"no column 'mask' \(columns: image, other, patient_id, pathology, device\). Set `read: \[\]` if the",
    ),
    (drop_column("patient_id", rename="patient"), "no column 'patient_id'.*Did you mean 'patient'?"),
    (text(f"{WITH_DEVICE}\n"), "metadata.csv: the table has no rows."),
    (text(""), r"no column 'image' \(columns: \)"),
    (
        text(WITH_DEVICE.replace(",", "|")),
        r"metadata.csv: its columns look separated by '\|' \('image\|mask\|pat.*commas",
    ),
    (
        text(f"{WITH_DEVICE}\n".encode("utf-16")),
        "read as a table: .*codec can't decode.* Save it as CSV .UTF-8, sep",
    ),
    (
        text(f"{WITH_DEVICE}\n{'x' * 200_000},b,c,d,e\n"),
        "cannot be read as a table: field larger than .*Save it",
    ),
    (text(f"{WITH_DEVICE},device\n"), "columns stand twice: device."),
    (
        text(f"{WITH_DEVICE}\na,b,c\n"),
        "metadata.csv:2: 3 cells for 5 columns; quote cells that contain commas.",
    ),
    (
        text(f"{WITH_DEVICE}\n\xe4,b,c,d,e\n".encode("latin-1")),
        "metadata.csv: cannot be read as a table: .*utf-8",
    ),
    (text(f'{WITH_DEVICE}\na,b,"c'), "cannot be read as a table: unexpected end of data"),
    (cell(2, patient_id=" "), "metadata.csv:4: patient_id is empty; every case needs one."),
    (cell(2, pathology=""), "metadata.csv:4: pathology is empty; every case needs one."),
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
    with pytest.raises(ValidationError, match="this is for X-rays, whose images are grey"):
        section(source=source, simulate="portable", **fields)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with one file, three links that stay and three that leave, reached by a link itself."""
    real, other = tmp_path / "real", tmp_path / "real-other"
    for folder in (real / "images", other):
        folder.mkdir(parents=True)
        (folder / "a.png").write_text("")
    (real / "same").symlink_to("images")
    (real / "images/b.png").symlink_to("a.png")
    (real / "images/c.png").symlink_to(real / "same/b.png")
    (real / "masks").symlink_to(other)
    (real / "images/d.png").symlink_to("../../real-other/a.png")
    (real / "images/e.png").symlink_to("d.png")
    (tmp_path / "root").symlink_to(real)
    return tmp_path / "root"


def test_only_what_links_lead_out_is_outside(root: Path, tmp_path: Path) -> None:
    staying = ["images/a.png", "images/b.png", "images/c.png", "same/a.png"]
    leaving = ["images/d.png", "images/e.png", "masks/a.png"]
    assert outside(root, staying) == {}
    assert outside(root, [*leaving, *staying]) == dict.fromkeys(leaving, str(tmp_path / "real-other/a.png"))


def test_names_that_look_alike(tmp_path: Path) -> None:
    composed = "é.png"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / composed).write_text("")
    nearest = Nearest(tmp_path)
    hint = f" Did you mean {'images/' + composed!r}?"
    assert nearest.hint("images/É.PNG") == hint
    decomposed = nearest.hint("images/" + unicodedata.normalize("NFD", composed))
    assert decomposed.startswith(f"{hint} It looks alike, but Unicode writes it with other characters")
    for name in ("images/f.png", "nowhere/é.png", "é.png", "a\0/b.png", f"images/{composed}"):
        assert nearest.hint(name) == ""
