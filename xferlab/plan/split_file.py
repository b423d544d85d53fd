"""Somebody else's split: a CSV file with the part of every patient or image, checked against the cohort."""

from __future__ import annotations

import csv
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from xferlab.cohort import Cohort, Part
from xferlab.cohort.rules import SPLIT_PARTS, Given, usual_part
from xferlab.errors import FileUnavailableError, Problem, StudyError, composed, pointer_hint, suggest

KEYS = ("patient_id", "image")
COLUMNS = (*KEYS, "part", "repetition")
EXAMPLE = "patient_id,part,repetition\n  P001,train,1"
_SHOWN = 10


class Row(NamedTuple):
    """One line: where it stands, whom it is about, and the part in one repetition (0: in every one)."""

    where: str
    key: str
    part: Part
    repetition: int


def read_split(path: Path, cohort: Cohort) -> Given:
    """Returns the rule that a file gives; which file it is does not matter, only what is in it.

    Args:
        path: UTF-8, separated by commas, semicolons or tabs, with a header.
        cohort: Those who are divided; units that are held out need no part.

    Raises:
        FileUnavailableError: The file is not there, or cannot be read.
        StudyError: With the first problems: the file is not such a table, lacks a unit, names somebody who is
            not there, or puts a unit into two parts of one repetition.
    """
    key, rows = _rows(path)
    number = max(row.repetition for row in rows)
    _raise(path, _gaps(path, {row.repetition for row in rows}))
    return _Matching(path, cohort, key).given(rows, number)


def _rows(path: Path) -> tuple[str, list[Row]]:
    """Returns the name of the column that says whom a line is about, and the lines."""
    try:
        lines = list(_lines(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        kind = FileUnavailableError if isinstance(error, OSError) else StudyError
        raise kind.at(
            path, f"split.file cannot be read: {why}. Give a CSV file (UTF-8, separated by commas)."
        ) from error
    if not lines:
        raise StudyError.at(path, f"split.file is empty; it is a table such as\n  {EXAMPLE}")
    header = lines[0][1]
    key = _key(path, header)
    read = [_row(f"{path}:{number}", header, cells, key) for number, cells in lines[1:]]
    _raise(path, [row for row in read if isinstance(row, Problem)])
    rows = [row for row in read if isinstance(row, Row)]
    if not rows:
        raise StudyError.at(path, f"split.file has no line below its header; it is such as\n  {EXAMPLE}")
    return key, rows


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields number and cells of each line that is not empty."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        first = file.readline()
        if hint := pointer_hint(first.encode()):
            raise StudyError.at(path, f"split.file is no table.{hint}")
        file.seek(0)
        reader = csv.reader(file, delimiter=max(",;\t", key=first.count), strict=True)
        for line in reader:
            cells = [cell.strip() for cell in line]
            if any(cells):
                yield reader.line_num, cells


def _key(path: Path, header: Sequence[str]) -> str:
    keys = [name for name in KEYS if name in header]
    problems = [
        f"unknown column {name!r} (accepted: {', '.join(COLUMNS)}).{suggest(name, COLUMNS)}"
        for name in header
        if name not in COLUMNS
    ]
    problems += [f"the column {name!r} stands twice." for name in COLUMNS if list(header).count(name) > 1]
    if len(keys) != 1 and not problems:
        which = "has both" if keys else "has neither"
        problems.append(f"the header {which} patient_id and image; give one of them.")
    if "part" not in header and not problems:
        problems.append(f"no column 'part' (columns: {', '.join(header)}).")
    _raise(path, [Problem(f"{path}:1", what) for what in problems])
    return keys[0]


def _row(where: str, header: Sequence[str], line: Sequence[str], key: str) -> Row | Problem:
    if len(line) != len(header):
        return Problem(where, f"{len(line)} cells for {len(header)} columns.")
    cells = dict(zip(header, line, strict=True))
    part = next((part for part in SPLIT_PARTS if part == cells["part"]), None)
    if not cells[key]:
        return Problem(where, f"{key} is empty.")
    if part is None:
        hint = (
            suggest(usual_part(cells["part"]), SPLIT_PARTS)
            or " `hold_out` of a data section sets who is held out."
        )
        what = f"part is {cells['part']!r}; it must be one of {', '.join(SPLIT_PARTS)}.{hint}"
        return Problem(where, what)
    number = cells.get("repetition", "0")
    if "repetition" in cells and not (number.isascii() and number.isdigit() and 1 <= int(number) <= 10_000):
        return Problem(where, f"repetition is {number!r}; it must be a whole number from 1 to 10000.")
    name = posixpath.normpath(cells[key].replace("\\", "/")) if key == "image" else cells[key]
    return Row(where, composed(name), part, int(number))


def _gaps(path: Path, repetitions: set[int]) -> list[Problem]:
    absent = sorted(set(range(1, max(repetitions) + 1)) - repetitions)
    if not absent:
        return []
    listed = ", ".join(map(str, absent[:_SHOWN])) + (", ..." if len(absent) > _SHOWN else "")
    what = f"the last repetition is {max(repetitions)}, and no line has repetition {listed}; leave no gap."
    return [Problem(str(path), what)]


class _Matching:
    """The lines of a file and the units of a cohort."""

    def __init__(self, path: Path, cohort: Cohort, key: str):
        self.path, self.key = path, key
        self.held_out = cohort.held_out()
        self.units: dict[str, set[str]] = defaultdict(set)
        self.names: dict[str, str] = {}
        for cases in cohort.sections.values():
            for case in cases:
                name = case.name if key == "image" else case.columns.get("patient_id", case.patient)
                self.units[composed(name)].add(cohort.unit(case))
                self.names[cohort.unit(case)] = name

    def given(self, rows: Sequence[Row], number: int) -> Given:
        chosen: dict[tuple[int, str], Row] = {}
        problems = []
        for row in rows:
            units = self.units.get(row.key, set())
            if not units or (self.key == "image" and len(units) > 1):
                problems.append(self._unmatched(row, len(units)))
            for unit in sorted(units):
                first = chosen.setdefault((row.repetition, unit), row)
                if first.part != row.part:
                    problems.append(self._conflict(first, row))
        repetitions = range(1, number + 1) if number else (0,)
        by_repetition = [{u: row.part for (r, u), row in chosen.items() if r == n} for n in repetitions]
        for repetition, parts in zip(repetitions, by_repetition, strict=True):
            problems += self._missing(repetition, self.names.keys() - self.held_out - parts.keys())
        _raise(self.path, problems)
        unused = len({unit for _, unit in chosen} & self.held_out)
        return Given(tuple(by_repetition), number or None, unused)

    def _unmatched(self, row: Row, number: int) -> Problem:
        if number:
            what = f"image {row.key!r} is that of {number} patients in the study's sections; use patient_id."
        else:
            hint = suggest(row.key, self.units)
            what = f"no case of the study's data sections has {self.key} {row.key!r}.{hint}"
        return Problem(row.where, what)

    def _conflict(self, first: Row, second: Row) -> Problem:
        once = f"in repetition {second.repetition}" if second.repetition else "at once"
        there = f"{first.where} says {first.part!r}"
        if first.key == second.key:
            what = f"{self.key} {second.key!r} is in part {second.part!r}, and {there}; give one part {once}."
        else:
            what = (
                f"{self.key} {second.key!r} is in part {second.part!r}, and {there} of {first.key!r}, which "
                f"is the same patient's; a patient can be in one part {once}. `split: {{group_by: null}}` "
                "divides images instead, as in a profile for what others published."
            )
        return Problem(second.where, what)

    def _missing(self, repetition: int, units: Iterable[str]) -> list[Problem]:
        names = sorted({self.names[unit] for unit in units})
        if not names:
            return []
        listed = ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
        where = f" in repetition {repetition}" if repetition else ""
        what = (
            f"{len(names)} of the study have no part{where} ({self.key} {listed}); add them, or leave them "
            "out of the data sections with `where`."
        )
        return [Problem(str(self.path), what)]


def _raise(path: Path, problems: Sequence[Problem]) -> None:
    """Raises StudyError with the first problems, and the number of the others."""
    if len(problems) > _SHOWN:
        more = Problem(str(path), f"{len(problems) - _SHOWN} more such problems.")
        problems = [*problems[:_SHOWN], more]
    if problems:
        raise StudyError(problems)
