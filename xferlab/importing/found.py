"""What an import finds: images with their masks, and files that belong to none."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from xferlab.data.sources.manifest.config import IGNORE, MASK
from xferlab.data.sources.manifest.table import REQUIRED
from xferlab.errors import DataError, Problem, composed, joined
from xferlab.section import NAME_LENGTH

Result = TypeVar("Result")

IMAGE, PATIENT = REQUIRED
"""Columns of the table."""
PART, TRAINING, TEST = "part", "training", "test"
"""The column that says which published part an image is of; from the last one no network may learn."""
FOLD = "fold"
"""The column that says in which fold of a published cross-validation an image validates."""


def as_file_name(text: str) -> str:
    """Returns letters, digits, `-` and `_` of a text; may be empty."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_-")


def as_name(text: str) -> str:
    """Returns what a name in a study can have of a text, and `mask_NAME`, too; may be empty."""
    return as_file_name(text)[: NAME_LENGTH - len(f"{MASK}_")].strip("_-")


def spelled(name: str, folders: Collection[Path]) -> str:
    """Returns a path as it is if it exists below one of some folders, else with `/` for backslashes.

    Where that does not exist either, letters such as `ü` may be spelled otherwise: macOS writes a letter and
    its accent as two characters.
    """
    if "\\" not in name and name.isascii():
        return name
    slashes = name.replace("\\", "/")
    spellings = (name, slashes, composed(slashes), unicodedata.normalize("NFD", slashes))
    there = (text for text in spellings for folder in folders if os.path.lexists(folder / text))
    return next(there, slashes)


def structure_name(text: str, taken: Collection[str], *, where: Path, what: str) -> str:
    """Returns the name of a structure that a description calls by a text.

    Raises:
        DataError: The text has no sign that a name can have, agrees in these with another, or is `ignore`.
    """
    name = as_name(text)
    if name == IGNORE:
        raise DataError.at(
            where,
            f"has a {what}; `{IGNORE}` is the label of pixels that count nowhere. Rename the structure.",
        )
    if not name or name in taken:
        raise DataError.at(
            where,
            f"has a {what}; names of structures have letters, digits, `-` and `_`, and must differ in these. "
            "Rename it.",
        )
    return name


def parted(results: Sequence[Result | DataError], kind: str = "") -> tuple[list[Result], list[Problem]]:
    """Returns what several attempts gave, and warnings of a kind about those that are left out."""
    left_out = [replace(problem, severity="warning", kind=kind) for problem in joined(results).problems]
    return [result for result in results if not isinstance(result, DataError)], left_out


def spare_mask(path: Path) -> Problem:
    """Returns the warning about a mask whose image is not there."""
    return Problem(str(path), "is the mask of no image.", "warning", "masks without an image")


@dataclass(frozen=True)
class Entry:
    """An image with its masks.

    Attributes:
        image: The file.
        masks: Its masks by their columns of the table; a structure that it lacks is left out.
        cells: What else is known of it, by column; its patient, or a name in place of it.
        merged: More columns of the table: masks that hold structures of several of its masks.
        knows_patient: Whether its patient is known; else the cell is a name in place of it.
    """

    image: Path
    masks: Mapping[str, Path] = field(default_factory=dict)
    cells: Mapping[str, str] = field(default_factory=dict)
    merged: Mapping[str, Path] = field(default_factory=dict)
    knows_patient: bool = False


@dataclass(frozen=True)
class Listing:
    """All that a layout holds.

    Attributes:
        images: In the order of their names.
        left_out: Files that are not used, each with the reason.
        labels: What the values of masks mark, by column; a column without them is looked into.
        parts: Structures that are made of others.
        remarks: What else somebody should know, one sentence each.
        written: The folder of the masks that the import draws by itself.
        root: The folder of the table, where it is not the one that just holds all files.
        gives: Columns of the table, beside those of masks, that the layout gives where it can.
    """

    images: tuple[Entry, ...]
    left_out: tuple[Problem, ...] = ()
    labels: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    written: Path | None = None
    root: Path | None = None
    gives: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of masks, in the order in which they occur."""
        return tuple(dict.fromkeys(column for entry in self.images for column in entry.masks))


def with_cells(listing: Listing, cells: Mapping[str, str]) -> Listing:
    """Returns a listing in which some cells are known of every image."""
    images = tuple(replace(entry, cells={**entry.cells, **cells}) for entry in listing.images)
    return replace(listing, images=images)
