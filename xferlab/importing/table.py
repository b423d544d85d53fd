"""The table of an import, in the folder that holds all that it names."""

from __future__ import annotations

import csv
import io
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xferlab.data.sources.manifest.table import read_table
from xferlab.errors import DataError, Problem, UsageError
from xferlab.importing.found import IMAGE, PATIENT, Entry, Listing
from xferlab.records.store import Store

NAME = "metadata.csv"


@dataclass(frozen=True)
class Written:
    """What became of a table.

    Attributes:
        rows: All rows, by column.
        new: How many of them it had not before.
        changed: How many others it had with another mask or another patient.
    """

    rows: Sequence[Mapping[str, str]]
    new: int
    changed: int


def write_table(listing: Listing, root: Path, *, replaces_patients: bool) -> Written:
    """Writes the table of an import, or brings an earlier one up to date.

    What the import finds replaces what stood there before. All other cells and columns stay, as do rows of
    images that are no longer found.

    Args:
        listing: Images with their patients; all files lie below the folder.
        root: The folder.
        replaces_patients: Whether patients of rows that are there already are replaced, too.

    Raises:
        UsageError: The folder has its table in Parquet.
        DataError: The table cannot be read, or has an image twice.
        StorageError: It cannot be written.
    """
    if not (root / NAME).exists() and (root / "metadata.parquet").exists():
        raise UsageError(f"{root} has a table already, metadata.parquet; move it away, or save it as {NAME}")
    before = _rows(root / NAME)
    imported = {_below(entry.image, root): _cells(entry, root) for entry in listing.images}
    merged = dict(before)
    for image, cells in imported.items():
        old = before.get(image, {})
        kept = {PATIENT} if old.get(PATIENT) and not replaces_patients else set()
        merged[image] = {**old, **{name: cell for name, cell in cells.items() if name not in kept}}
    columns = dict.fromkeys([IMAGE, *listing.columns, PATIENT])
    columns |= dict.fromkeys(column for cells in merged.values() for column in cells)
    rows = [merged[image] for image in sorted(merged)]
    Store.open(str(root)).write(NAME, _text([*columns], rows).encode())
    changed = sum(_differ(before[image], merged[image]) for image in before)
    return Written(rows, len(imported.keys() - before.keys()), changed)


def common_folder(listing: Listing) -> Path:
    """Returns the folder that holds all files of an import, and the table.

    Raises:
        UsageError: They have none but the root of the file system.
    """
    return listing.root or folder_of(
        [path for entry in listing.images for path in (entry.image, *entry.masks.values())]
    )


def folder_of(files: Sequence[Path]) -> Path:
    """Returns the folder that holds all of some files.

    Raises:
        UsageError: They have none but the root of the file system.
    """
    folder = Path(os.path.commonpath([path.parent for path in files]))
    if folder == Path(folder.anchor):
        raise UsageError(
            f"the images and masks lie in no common folder ({folder}); move or link them into one"
        )
    return folder


def _rows(path: Path) -> dict[str, Mapping[str, str]]:
    if not path.exists():
        return {}
    rows: dict[str, Mapping[str, str]] = {}
    problems: list[Problem] = []
    for row in read_table(path).rows:
        image = posixpath.normpath(row.cells[IMAGE].replace("\\", "/"))
        if image in rows:
            problems.append(
                Problem(row.where, f"{image} has two rows; import into another folder, or leave one.")
            )
        rows[image] = {**row.cells, IMAGE: image}
    if problems:
        raise DataError(problems)
    return rows


def _differ(old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    return any(old.get(column) and old[column] != cell for column, cell in new.items())


def _cells(entry: Entry, root: Path) -> dict[str, str]:
    masks = {column: _below(path, root) for column, path in {**entry.masks, **entry.merged}.items()}
    return {IMAGE: _below(entry.image, root), **masks, **entry.cells}


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _text(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
