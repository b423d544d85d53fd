"""Who is on an image: from its name, from a table, or from the header of a DICOM file."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from xferlab.data.formats import without_suffix
from xferlab.data.sources.manifest.config import MASK
from xferlab.data.sources.manifest.table import Row, read_table
from xferlab.data.sources.patients import person_key
from xferlab.errors import DataError, UsageError, attempt, composed
from xferlab.importing.found import IMAGE, PATIENT, Entry, Listing, parted
from xferlab.parallel import for_each

HEADER = "dicom"
KIND = "images without a patient, which are left out"
_HASH_LENGTH = 12

Parts = tuple[str, ...]
"""The folders and the name of a path."""
Cells = Callable[[Entry], Mapping[str, str]]
"""What is known of an image, with its patient; raises DataError where that is not known."""


def with_patients(listing: Listing, source: str | None, *, images: Path, keep_ids: bool) -> Listing:
    """Returns a listing whose images have patients; those whose patient is not known are left out.

    Args:
        listing: The images.
        source: A table with the columns `image` and `patient_id`, whose other columns are taken, too; a
            regular expression for paths below `images`, whose first group, else the whole match, is the
            patient; `dicom`; or None: the patient that the layout names, else every image shows another.
        images: The folder of the images.
        keep_ids: Whether ids of DICOM headers are kept as they are; else they are hashed, and spellings of
            one id, such as `P 7` and `p07`, have one hash.

    Raises:
        UsageError: The expression is not valid.
        DataError: The table cannot be read, or no image has a patient.
    """
    cells = _reader(source, listing, images, keep_ids=keep_ids)
    results = for_each(listing.images, lambda entry: attempt(_with_patient, entry, cells))
    entries, left_out = parted(results, KIND)
    if not entries:
        raise DataError.at(images, f"no image has a patient. {left_out[0].where}: {left_out[0].what}")
    if source is not None:
        entries = [replace(entry, knows_patient=True) for entry in entries]
    return replace(listing, images=tuple(entries), left_out=(*listing.left_out, *left_out))


def _with_patient(entry: Entry, cells: Cells) -> Entry:
    known = cells(entry)
    if not known[PATIENT]:
        raise DataError.at(entry.image, "its patient is empty.")
    return replace(entry, cells={**entry.cells, **known})


def _reader(source: str | None, listing: Listing, images: Path, *, keep_ids: bool) -> Cells:
    if keep_ids and source != HEADER:
        raise UsageError(f"--keep-ids is for --patient {HEADER}; other ids are never hashed")
    if source is None:
        return lambda entry: {
            PATIENT: entry.cells.get(PATIENT) or without_suffix(_below(entry.image, images))
        }
    if source == HEADER:
        return lambda entry: {PATIENT: _of_header(entry.image, keep_ids=keep_ids)}
    if source.lower().endswith((".csv", ".parquet")) or os.path.isfile(source):
        return _of_table(Path(source), listing, images)
    return _of_name(source, images)


def _below(image: Path, folder: Path) -> str:
    """Returns the path of an image below a folder in Unicode's NFC, as people write it."""
    return composed(image.relative_to(folder).as_posix())


def _of_name(expression: str, images: Path) -> Cells:
    try:
        pattern = re.compile(composed(expression))
    except re.error as error:
        raise UsageError(f"--patient {expression!r} is no regular expression: {error}") from error

    def cells(entry: Entry) -> dict[str, str]:
        match = pattern.search(_below(entry.image, images))
        if match is None:
            raise DataError.at(entry.image, f"--patient {expression!r} finds no patient in its name.")
        return {PATIENT: (match[1] if pattern.groups else match[0]) or ""}

    return cells


def _of_table(path: Path, listing: Listing, images: Path) -> Cells:
    """Reads rows by paths of images, which may begin elsewhere or end otherwise than those below a folder."""
    named = defaultdict[str, list[tuple[Parts, Row]]](list)
    for row in read_table(path).rows:
        parts = _parts(row.cells[IMAGE])
        if parts:  # a row without an image is of nobody
            named[parts[-1]].append((parts, row))

    def rows_of(entry: Entry) -> list[Row]:
        parts = _parts(_below(entry.image, images))
        return [row for other, row in named[parts[-1]] if _ends_alike(parts, other)]

    images_of = defaultdict[str, list[Path]](list)
    for entry in listing.images:
        for row in rows_of(entry):
            images_of[row.where].append(entry.image)

    def cells(entry: Entry) -> dict[str, str]:
        rows = rows_of(entry)
        if len(rows) != 1:
            raise DataError.at(
                entry.image, f"is in {len(rows) or 'no'} row{'s' * (len(rows) > 1)} of {path}."
            )
        (row,) = rows
        if others := [other for other in images_of[row.where] if other != entry.image]:
            raise DataError.at(
                entry.image,
                f"has a row that fits {others[0]}, too ({row.where}); write more of the path there.",
            )
        return {name: cell for name, cell in row.cells.items() if name != IMAGE and not name.startswith(MASK)}

    return cells


def _parts(name: str) -> Parts:
    """Returns the folders and the name, without its ending, of a path, which may be one of Windows."""
    return PurePosixPath(without_suffix(composed(name).replace("\\", "/"))).parts


def _ends_alike(first: Parts, second: Parts) -> bool:
    """Whether the shorter of two paths is the end of the longer one."""
    length = min(len(first), len(second))
    return first[-length:] == second[-length:]


def _of_header(path: Path, *, keep_ids: bool) -> str:
    from xferlab.data.dicom_file import read_header  # pydicom takes a while to import

    patient = str(read_header(path, "PatientID").get("PatientID", "")).strip()
    if not patient:
        raise DataError.at(path, "its header has no PatientID.")
    if keep_ids:
        return patient
    # Nothing can tell that two hashes are of one id in two spellings, so these have one hash.
    return hashlib.sha256(person_key(patient).encode()).hexdigest()[:_HASH_LENGTH]
