"""The table of an import, beside what it names, and the section of a study that reads it."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from xferlab.data.sources.manifest.table import read_table
from xferlab.errors import UsageError
from xferlab.importing.found import Found, Listing

NAME = "metadata.csv"
FIRST = ("image", "patient_id")


def write_table(listing: Listing, root: Path) -> tuple[int, int]:
    """Writes the table of an import, or brings an earlier one up to date.

    Cells and columns that were added or changed since stay, as do rows of images that are no longer found.

    Args:
        listing: Images with their patients; all files lie below the folder.
        root: The folder.

    Returns:
        The number of rows of the table, and how many of them are new.
    """
    before = _rows(root / NAME, listing.columns)
    rows = {_below(found.image, root): _cells(found, root) for found in listing.images}
    merged = {
        image: {**rows.get(image, {}), **_filled(before.get(image, {}))} for image in {**before, **rows}
    }
    columns = dict.fromkeys([*FIRST[:1], *listing.columns, FIRST[1]])
    columns |= dict.fromkeys(column for cells in merged.values() for column in cells)
    _write(root / NAME, [*columns], merged.values())
    return len(merged), len(rows.keys() - before.keys())


def common_folder(listing: Listing) -> Path:
    """Returns the folder that holds all files of an import.

    Raises:
        UsageError: They have none but the root of the file system.
    """
    files = [path for found in listing.images for path in (found.image, *found.masks.values())]
    folder = Path(os.path.commonpath([path.absolute().parent for path in files]))
    if folder == Path(folder.anchor):
        raise UsageError(
            f"the images and masks lie in no common folder ({folder}); move or link them into one"
        )
    return folder


def _rows(path: Path, masks: Sequence[str]) -> dict[str, Mapping[str, str]]:
    if not path.exists():
        return {}
    return {row.cells["image"]: row.cells for row in read_table(path).rows}


def _filled(cells: Mapping[str, str]) -> dict[str, str]:
    return {column: cell for column, cell in cells.items() if cell}


def _cells(found: Found, root: Path) -> dict[str, str]:
    masks = {column: _below(path, root) for column, path in found.masks.items()}
    return {"image": _below(found.image, root), **masks, **found.cells}


def _below(path: Path, root: Path) -> str:
    return path.absolute().relative_to(root).as_posix()


def _write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    fresh = path.with_suffix(".new")
    with open(fresh, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda cells: cells["image"]))
    fresh.replace(path)
