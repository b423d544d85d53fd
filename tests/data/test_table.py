"""Tables: the same rows from every way to write them, and a message for what is no table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xferlab.data.sources.manifest import table
from xferlab.data.sources.manifest.table import read_table
from xferlab.errors import DataError

TEXT = 'image,mask,patient_id,pathology\na.png,b.png,"Doe, J",normal\n c.png ,d.png,é,covid19\n'
CELLS = [("a.png", "b.png", "Doe, J", "normal"), ("c.png", "d.png", "é", "covid19")]


def cells(path: Path) -> list[tuple[str, ...]]:
    return [tuple(row.cells.values()) for row in read_table(path).rows]


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert {problem.where for problem in caught.value.problems} == {str(path)}
    return " ".join(problem.what for problem in caught.value.problems)


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
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert [(problem.where, problem.what) for problem in caught.value.problems] == [(f"{path}:2", what)]


def test_empty_columns_and_rows(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text(f"{HEADER}\na,,p,n\nb,,q,n\n")
    assert refusal(path) == "the column 'mask' is empty in all 2 rows; every case needs one."
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
