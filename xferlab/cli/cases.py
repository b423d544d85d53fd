"""Who is who: the table that leads from a record's pseudonyms back to patients and files."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from xferlab.errors import UsageError
from xferlab.plan.expand import Plan

COLUMNS = (
    "section",
    "case",
    "recorded_name",
    "recorded_patient",
    "name",
    "patient",
    "pathology",
    "simulated",
)


def write_cases(plan: Plan, path: Path) -> None:
    """Writes a row for every case of every section (CSV, UTF-8), and its part in each repetition.

    Only the user can read the file: it holds patient ids.

    Raises:
        UsageError: It cannot be written.
    """
    repetitions = range(1, plan.loaded.base.repetitions + 1)
    try:
        with os.fdopen(_private(path), "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*COLUMNS, *(f"part_r{repetition:02d}" for repetition in repetitions)])
            writer.writerows(dict.fromkeys(_rows(plan, repetitions)))
    except OSError as error:
        raise UsageError(f"--cases {path}: cannot be written: {error.strerror}") from error


def _rows(plan: Plan, repetitions: range) -> Iterator[tuple[str, ...]]:
    for section, case, recorded in plan.choices.listed():
        parts = (plan.choices.part_of(repetition, case) for repetition in repetitions)
        told = (recorded.name, recorded.patient, case.name, case.patient, case.pathology, case.simulated)
        yield section, case.digest, *told, *parts


def _private(path: Path) -> int:
    """Opens a file that others cannot read, also where it was there before."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(handle, 0o600)
    return handle
