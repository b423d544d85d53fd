"""Cohen's collection of X-rays (arXiv:2006.11988): a table of its own, and images without masks."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from xferlab.data.decode import is_image_file
from xferlab.errors import DataError, attempt
from xferlab.importing.found import PATIENT, Entry, Listing, parted

TABLE, SOURCE = "metadata.csv", "cohen"
_NEEDED = ("patientid", "age", "finding", "view", "modality", "folder", "filename", "license")
"""Its columns that are read."""
_KEPT = ("finding", "view", "age", "license")
_X_RAY = "X-ray"
_PROJECTIONS = {"PA": "frontal", "AP": "frontal", "L": "lateral"}
"""First word of the view -> where the image was taken from."""
_CLASSES = {
    "COVID-19": "covid19",
    "Viral": "viral",
    "Bacterial": "bacterial",
    "Tuberculosis": "tuberculosis",
    "No Finding": "normal",
}
"""Level of the finding -> the table's `pathology`; the first that occurs counts."""
_OTHER = "pathological"


def is_collection(path: Path) -> bool:
    """Returns whether a folder has the table of the collection."""
    rows = attempt(_rows, path / TABLE)
    return not isinstance(rows, DataError) and not _missing(rows[0])


def read_collection(folder: Path) -> Listing:
    """Returns the X-rays of the collection, with their patients, and what is derived from view and finding.

    Raises:
        DataError: The table cannot be read, lacks a column, or names no X-ray that is there.
    """
    columns, rows = _rows(folder / TABLE)
    if missing := _missing(columns):
        raise DataError.at(folder / TABLE, f"has no column {', '.join(missing)}, as Cohen's collection has.")
    x_rays = [row for row in rows if row["modality"] == _X_RAY]
    images, left_out = parted([attempt(_entry, folder, row) for row in x_rays], "X-rays that are left out")
    if not images:
        raise DataError.at(
            folder / TABLE, f"names no X-ray that is there. {left_out[0].what if left_out else ''}"
        )
    remark = f"{len(rows) - len(x_rays)} images are no X-rays, and left out"
    return Listing(tuple(images), tuple(left_out), remarks=(remark,))


def _rows(table: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Returns the columns and the rows of a table.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            rows = [{name: cell.strip() for name, cell in row.items() if name} for row in reader]
            return list(reader.fieldnames or ()), rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError.at(table, f"cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def _missing(columns: list[str]) -> list[str]:
    return [name for name in _NEEDED if name not in columns]


def _entry(folder: Path, row: Mapping[str, str]) -> Entry:
    """Returns one X-ray.

    Raises:
        DataError: It is not there, is no image, has no patient, or a view that is not known.
    """
    image = folder / row["folder"] / row["filename"]
    if not (image.is_file() and is_image_file(image)):
        raise DataError.at(image, "there is no such image.")
    projection = _PROJECTIONS.get(row["view"].partition(" ")[0])
    if projection is None or not row["patientid"]:
        raise DataError.at(image, f"has the view {row['view']!r} and the patient {row['patientid']!r}.")
    levels = re.split("/|, ", row["finding"])
    pathology = next((name for level, name in _CLASSES.items() if level in levels), _OTHER)
    cells = {PATIENT: f"{SOURCE}-{row['patientid']}", "pathology": pathology, "projection": projection}
    cells |= {**{name: row[name] for name in _KEPT}, "source": SOURCE}
    return Entry(image, cells=cells, knows_patient=True)
