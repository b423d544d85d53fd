"""The table of an import, in the folder that holds all that it names."""

from __future__ import annotations

import csv
import io
import os
import posixpath
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xferlab.data.sources.manifest.table import read_table
from xferlab.errors import DataError, Problem, UsageError, utf8
from xferlab.importing.found import IMAGE, PATIENT, Entry, Listing, spelled
from xferlab.records.store import Store

NAME = "metadata.csv"


@dataclass(frozen=True)
class Written:
    """What became of a table.

    Attributes:
        rows: All rows, by column.
        new: How many of them it had not before.
        changed: How many others it had with another mask or another patient.
        unknown: Images whose patient nothing tells, so that they are patients of their own.
        gone: Images and masks that rows name, and that are not there.
    """

    rows: Sequence[Mapping[str, str]]
    new: int
    changed: int
    unknown: Sequence[str]
    gone: Collection[str]


def write_table(listing: Listing, root: Path) -> Written:
    """Writes the table of an import, or brings an earlier one up to date.

    What the import finds replaces what stood there before; a patient only where it is known. A cell that
    names a mask of `listing.written` is emptied where the import no longer draws this mask. All other cells
    and columns stay, as do rows of images that are no longer found.

    Args:
        listing: Images with their patients; all files lie below the folder.
        root: The folder.

    Raises:
        UsageError: The folder has its table in Parquet, or the name of a folder is no UTF-8.
        DataError: The table cannot be read, or has an image twice.
        StorageError: It cannot be written.
    """
    if not (root / NAME).exists() and (root / "metadata.parquet").exists():
        raise UsageError(f"{root} has a table already, metadata.parquet; move it away, or save it as {NAME}")
    before = _rows(root / NAME)
    drawn = f"{_below(listing.written, root)}/" if listing.written else None
    imported = {_below(entry.image, root): entry for entry in listing.images}
    merged = dict(before)
    for image, entry in imported.items():
        old = before.get(image, {})
        kept = {PATIENT} if old.get(PATIENT) and not entry.knows_patient else set()
        cells = {name: cell for name, cell in _cells(entry, root).items() if name not in kept}
        merged[image] = {**old, **_without_drawn(old, drawn), **cells}
    columns = dict.fromkeys([IMAGE, *listing.columns, PATIENT])
    columns |= dict.fromkeys(column for cells in merged.values() for column in cells)
    rows = [merged[image] for image in sorted(merged)]
    data = utf8(_text([*columns], rows), shown=str(root / NAME))
    Store.open(str(root)).write(NAME, data)
    changed = sum(_differ(before[image], merged[image]) for image in before)
    new = len(imported.keys() - before.keys())
    unknown = [
        image
        for image, entry in imported.items()
        if not entry.knows_patient and merged[image][PATIENT] == entry.cells[PATIENT]
    ]
    return Written(rows, new, changed, unknown, _gone(rows, root, imported))


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
        image = posixpath.normpath(spelled(row.cells[IMAGE], [path.parent]))
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
    return {IMAGE: _below(entry.image, root), **_masks(entry, root), **entry.cells}


def _masks(entry: Entry, root: Path) -> dict[str, str]:
    return {column: _below(path, root) for column, path in {**entry.masks, **entry.merged}.items()}


def _without_drawn(row: Mapping[str, str], folder: str | None) -> dict[str, str]:
    """Returns empty cells for the masks of a row that lie in a folder."""
    return {column: "" for column, cell in row.items() if folder and cell.startswith(folder)}


def _gone(rows: Iterable[Mapping[str, str]], root: Path, imported: Mapping[str, Entry]) -> dict[str, None]:
    """Returns the images and masks of rows that are not there, in order; those just imported are."""
    masks = [_masks(entry, root) for entry in imported.values()]
    columns = {IMAGE}.union(*masks)
    known = imported.keys() | {cell for of_image in masks for cell in of_image.values()}
    named = dict.fromkeys(row[column] for row in rows for column in columns & row.keys())
    unknown = [name for name in named if name and name not in known]
    return {name: None for name in unknown if not (root / spelled(name, [root])).exists()}


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _text(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
