"""Who is on an image: from its name, from a table, or from the header of a DICOM file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from xferlab.data.sources.manifest.table import read_table
from xferlab.errors import DataError, UsageError
from xferlab.importing.found import Found, Listing

PATIENT = "patient_id"
HEADER = "dicom"
_HASH_LENGTH = 12

Cells = Callable[[Found], dict[str, str]]
"""What is known of an image, with its patient; raises DataError where that is not known."""


def with_patients(listing: Listing, source: str | None, *, images: Path, keep_ids: bool) -> Listing:
    """Returns a listing whose images have patients.

    Args:
        listing: The images.
        source: A regular expression for names below `images`, whose first group, else the whole match, is the
            patient; a table with the columns `image` and `patient_id`, whose other columns are taken, too;
            `dicom`; or None: every image shows another patient.
        images: The folder of the images.
        keep_ids: Whether ids of DICOM headers are kept as they are; else they are hashed.

    Raises:
        UsageError: The expression is not valid.
        DataError: The table cannot be read, or no image has a patient.
    """
    cells = _reader(source, images, keep_ids=keep_ids)
    found: list[Found] = []
    left_out = list(listing.left_out)
    for each in listing.images:
        try:
            found.append(replace(each, cells={**each.cells, **cells(each)}))
        except DataError as error:
            left_out += error.problems
    if not found:
        raise DataError(left_out)
    return replace(listing, images=tuple(found), left_out=tuple(left_out))


def _reader(source: str | None, images: Path, *, keep_ids: bool) -> Cells:
    if source is None:
        return lambda found: {PATIENT: _name(found, images)}
    if source == HEADER:
        return lambda found: {PATIENT: _of_header(found.image, keep_ids=keep_ids)}
    if source.lower().endswith((".csv", ".parquet")):
        return _of_table(Path(source), images)
    return _of_name(source, images)


def _name(found: Found, images: Path) -> str:
    return found.image.relative_to(images).with_suffix("").as_posix()


def _of_name(expression: str, images: Path) -> Cells:
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise UsageError(f"--patient {expression!r} is no regular expression: {error}") from error

    def cells(found: Found) -> dict[str, str]:
        match = pattern.search(found.image.relative_to(images).as_posix())
        if match is None:
            what = f"--patient {expression!r} finds no patient in its name."
            raise DataError.at(found.image, what, kind="images without a patient")
        return {PATIENT: match[1] if pattern.groups else match[0]}

    return cells


def _of_table(path: Path, images: Path) -> Cells:
    rows = {}
    for row in read_table(path).rows:
        name = row.cells["image"].replace("\\", "/")
        rows[name] = rows[name.rpartition("/")[2]] = {
            column: cell
            for column, cell in row.cells.items()
            if column != "image" and not column.startswith("mask")
        }

    def cells(found: Found) -> dict[str, str]:
        relative = found.image.relative_to(images)
        for name in (relative.as_posix(), relative.with_suffix("").as_posix(), relative.name, relative.stem):
            if name in rows:
                return rows[name]
        raise DataError.at(found.image, f"is in no row of {path}.", kind="images without a patient")

    return cells


def _of_header(path: Path, *, keep_ids: bool) -> str:
    import pydicom

    try:
        patient = str(pydicom.dcmread(path, stop_before_pixels=True).get("PatientID", "")).strip()
    except (OSError, pydicom.errors.InvalidDicomError) as error:
        raise DataError.at(path, f"is no DICOM file: {error}") from error
    if not patient:
        raise DataError.at(path, "its header has no PatientID.", kind="images without a patient")
    return patient if keep_ids else hashlib.sha256(patient.encode()).hexdigest()[:_HASH_LENGTH]
