"""The table of a manifest: rows of text with the place that each came from, and the files that they name."""

from __future__ import annotations

import csv
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from xferlab.data.sources.patients import alike
from xferlab.data.sources.source import NO_FOLDER
from xferlab.errors import DataError, Problem, did_you_mean, pointer_hint, suggest

REQUIRED, OPTIONAL = ("image", "patient_id"), ("pathology",)
EXAMPLE = "image,mask,patient_id,pathology\n  images/001.png,masks/001.png,P001,normal"
_SPREADSHEETS = (".xlsx", ".xls", ".ods", ".tsv")
_WORKBOOK = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How files of Excel begin, new ones and old."""
MAX_ROWS = 1_000_000
"""A small parquet file can unpack to any number of rows."""


@dataclass(frozen=True)
class Row:
    """One row: where it stands (`metadata.csv:12`), and column -> text without outer blanks."""

    where: str
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A manifest's columns and rows."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def find_table(root: Path, name: str | None) -> Path:
    """Returns the path of the table: the named one, else `metadata.csv`, else `metadata.parquet`.

    Raises:
        DataError: If the folder or the table is not there, or cannot be looked into.
    """
    try:
        if not root.is_dir():
            raise DataError.at(root, NO_FOLDER)
        names = [name] if name else ["metadata.csv", "metadata.parquet"]
        for candidate in names:
            if (root / candidate).is_file():
                return root / candidate
        files = sorted(path.name for path in root.iterdir())
    except OSError as error:
        raise DataError.at(root, f"cannot be looked into: {error.strerror or error}.") from error
    absent = "there is no such table" if name else f"no {' or '.join(names)}"
    raise DataError.at(root / (name or ""), f"{absent}; {_others(files, names[0])}")


def _others(files: Sequence[str], name: str) -> str:
    """What may be meant by a table that is not there."""
    tables = [file for file in files if file.endswith((".csv", ".parquet"))]
    if tables:
        return f"tables there: {', '.join(tables)}. Name one with `table:`.{suggest(name, tables)}"
    sheets = [file for file in files if file.lower().endswith(_SPREADSHEETS)]
    if sheets:
        return f"save {sheets[0]} as metadata.csv (UTF-8, separated by commas)."
    return (
        f"no table is there. It needs the columns {', '.join(REQUIRED)} and those of masks, for example:\n"
        f"  {EXAMPLE}"
    )


def read_table(path: Path, masks: Sequence[str] = ()) -> Table:
    """Returns a CSV (UTF-8; commas, semicolons or tabs) or Parquet table, every value as text.

    Args:
        path: The file.
        masks: Columns of masks that it needs beside `REQUIRED`.

    Raises:
        DataError: With all problems: an unreadable file, missing, doubled or empty columns, ragged rows, no
            rows.
    """
    try:
        _check_kind(path)
        table = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    except (OSError, UnicodeDecodeError, OverflowError, csv.Error, pa.ArrowException) as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise DataError.at(
            path,
            f"cannot be read as a table: {why}. Save it as CSV (UTF-8, separated by commas) or Parquet.",
        ) from error
    if problems := list(_column_problems(table, masks)):
        raise DataError(problems)
    return table


def _column_problems(table: Table, masks: Sequence[str]) -> Iterator[Problem]:
    """Columns that are missing, or empty in all of several rows."""
    path, shown = str(table.path), ", ".join(table.columns)
    needed = dict.fromkeys((*REQUIRED, *masks))
    missing = [name for name in needed if name not in table.columns]
    for name in missing:
        remedy = " Set `read: []` if there are no masks." if name in masks else ""
        what = f"no column {name!r} (columns: {shown}).{suggest(name, table.columns)}{remedy}"
        yield Problem(path, what)
    if not (missing or table.rows):
        yield Problem(path, "the table has no rows.")
    for name in dict.fromkeys((*needed, *OPTIONAL)):
        cells = [row.cells[name] for row in table.rows if name in row.cells]
        if len(cells) > 1 and not any(cells):
            remedy = "set `read: []` if there are no masks" if name in masks else "every case needs one"
            yield Problem(path, f"the column {name!r} is empty in all {len(cells)} rows; {remedy}.")


def _check_kind(path: Path) -> None:
    with open(path, "rb") as file:
        head = file.read(64)
    if hint := pointer_hint(head):
        raise DataError.at(path, f"is no table.{hint}")
    if head.startswith(_WORKBOOK):
        raise DataError.at(path, "is a spreadsheet file; save the sheet as CSV (UTF-8, separated by commas).")


def _read_csv(path: Path) -> Table:
    with open(path, newline="", encoding="utf-8-sig") as file:
        delimiter = max(",;\t", key=file.readline().count)
        file.seek(0)
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        header = [name.strip() for name in next(reader, [])]
        while len(header) > 1 and not header[-1]:
            header.pop()
        named = [number for number, name in enumerate(header) if name or not number]
        columns = tuple(header[number] for number in named)
        _check_columns(path, columns)
        rows: list[Row] = []
        problems: list[Problem] = []
        for line in reader:
            cells, where = [cell.strip() for cell in line], f"{path}:{reader.line_num}"
            if not any(cells):
                continue
            _check_count(path, len(rows) + len(problems) + 1)
            if what := _row_problem(header, cells):
                problems.append(Problem(where, what))
            else:
                rows.append(Row(where, {header[number]: cells[number] for number in named}))
    if problems:
        raise DataError(problems)
    return Table(path, columns, tuple(rows))


def _row_problem(header: Sequence[str], cells: Sequence[str]) -> str:
    """Returns why a row does not fit the header; empty cells behind the last column are a spreadsheet's."""
    if len(cells) < len(header) or any(cells[len(header) :]):
        return f"{len(cells)} cells for {len(header)} columns; quote cells that contain commas."
    for number, (name, cell) in enumerate(zip(header, cells, strict=False), 1):
        if cell and not name and number > 1:  # the first may be the row numbers that pandas writes
            return f"{cell!r} stands in column {number}, which has no name; name it or empty it."
    return ""


def _read_parquet(path: Path) -> Table:
    with pq.ParquetFile(path, memory_map=True) as file:
        columns = tuple(file.schema_arrow.names)
        _check_columns(path, columns)
        _check_count(path, file.metadata.num_rows)
        table = file.read(use_threads=False)
    rows = tuple(
        Row(f"{path}: row {number}", {name: _text(value) for name, value in row.items()})
        for number, row in enumerate(table.to_pylist(), 1)
    )
    return Table(path, columns, tuple(row for row in rows if any(row.cells.values())))


def _text(value: object) -> str:
    if value is None or value != value:  # None and NaN: empty
        return ""
    if isinstance(value, float) and value.is_integer():  # a column of integers of which some are missing
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) else str(value).strip()


def _check_columns(path: Path, columns: tuple[str, ...]) -> None:
    if doubled := sorted({name for name in columns if columns.count(name) > 1}):
        raise DataError.at(path, f"columns stand twice: {', '.join(doubled)}.")
    shown = ", ".join(columns)
    if len(columns) == 1 and "|" in shown:
        raise DataError.at(
            path, f"its columns look separated by '|' ({shown!r}). Save it separated by commas."
        )


def _check_count(path: Path, rows: int) -> None:
    if rows > MAX_ROWS:
        raise DataError.at(path, f"has more than {MAX_ROWS:,} rows. Divide it into several sections.")


def outside(root: Path, names: Iterable[str]) -> dict[str, str]:
    """Returns name -> where it lies, for files that links lead out of the folder.

    Args:
        root: The folder; may itself be reached by a link.
        names: Paths below it that exist.
    """
    home = os.path.realpath(root)
    real_folder = cache(lambda folder: os.path.realpath(os.path.join(root, folder)))
    targets = {}
    for name in dict.fromkeys(names):
        folder, last = posixpath.split(name)
        path = os.path.join(real_folder(folder), last)
        target = os.path.realpath(path) if os.path.islink(path) else path
        if not target.startswith(home.rstrip(os.sep) + os.sep):
            targets[name] = target
    return targets


class Nearest:
    """Finds names that differ from an absent one in case, blanks or composed characters only."""

    def __init__(self, root: Path):
        self._root = root
        self._names = cache(self._list)

    def hint(self, name: str) -> str:
        """Returns ` Did you mean 'x'?` for the file that the name may mean, or an empty string."""
        folder, _, last = name.rpartition("/")
        near = self._names(folder).get(alike(last))
        return did_you_mean(name, posixpath.join(folder, near)) if near and near != last else ""

    def _list(self, folder: str) -> dict[str, str]:
        try:
            return {alike(name): name for name in sorted(os.listdir(self._root / folder))}
        except (OSError, ValueError):
            return {}
