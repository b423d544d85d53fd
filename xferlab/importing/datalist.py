"""Lists of images and labels as MONAI and the Medical Segmentation Decathlon write them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from xferlab.data.formats import SUFFIXES, without_suffix
from xferlab.data.sources.manifest.config import MASK
from xferlab.errors import DataError, Problem
from xferlab.importing.found import FOLD, IMAGE, PART, PATIENT, TEST, TRAINING, Entry, Listing, spelled
from xferlab.importing.json_file import has_fields, json_in, read_json
from xferlab.importing.labels import labels_and_regions

DESCRIPTION, LABEL = "dataset.json", "label"
PARTS = {
    TRAINING: TRAINING,
    "train": TRAINING,
    "validation": "validation",
    "val": "validation",
    TEST: TEST,
    "testing": TEST,
}
"""Names of lists in a file, and what the table calls them."""


def is_datalist(path: Path) -> bool:
    """Returns whether a file is such a list, or a folder has one that is called `dataset.json`."""
    content = json_in(_file(path))
    if isinstance(content, list):
        return bool(content) and has_fields(content[0], IMAGE)
    lists = [content[name] for name in PARTS if has_fields(content, name)]
    return any(isinstance(items, list) for items in lists) and not has_fields(content, "file_ending")


def read_datalist(path: Path) -> Listing:
    """Returns the images of a list with their masks; paths are relative to the file.

    A label that names no file, and all other fields that hold one value, become columns of the table.

    Raises:
        DataError: The file cannot be read, names no image that is there, or one twice.
    """
    file = _file(path)
    content = read_json(file)
    entries: dict[Path, Entry] = {}
    problems: list[Problem] = []
    left_out: list[Problem] = []
    for where, part, item in _items(file, content):
        try:
            entry = _entry(file, where, part, item)
        except DataError as error:
            left_out += [replace(problem, severity="warning") for problem in error.problems]
            continue
        if entries.setdefault(entry.image, entry) is not entry:
            problems.append(Problem(where, f"{entry.image} is in the file twice; leave one."))
    if problems:
        raise DataError(problems)
    if not entries:
        raise DataError.at(file, "names no image that is there." + _first(left_out))
    labels, parts = _labels(file, content)
    return Listing(tuple(entries.values()), tuple(left_out), labels, parts, gives=(PART, FOLD))


def _file(path: Path) -> Path:
    return path / DESCRIPTION if path.is_dir() else path


def _first(problems: list[Problem]) -> str:
    return f" {problems[0].where}: {problems[0].what}" if problems else ""


def _items(file: Path, content: Any) -> Iterator[tuple[str, str, Any]]:
    """Yields where each item stands, its part, and the item."""
    lists = {"": content} if isinstance(content, list) else content
    for name in ("", *PARTS):
        items = lists.get(name)
        for number, item in enumerate(items if isinstance(items, list) else ()):
            yield f"{file}: {name}[{number}]", PARTS.get(name, ""), item


def _entry(file: Path, where: str, part: str, item: Any) -> Entry:
    """Returns one item of a list.

    Raises:
        DataError: It names no image, several, or files that are not there.
    """
    fields = {IMAGE: item} if isinstance(item, str) else item
    if not has_fields(fields, IMAGE):
        raise DataError.at(where, f"has no field {IMAGE!r}.")
    image = _path(file, where, fields[IMAGE], with_channel=True)
    label = fields.get(LABEL)
    is_mask = _is_file_name(label[0] if isinstance(label, list) and label else label)
    masks = {MASK: _path(file, where, label)} if is_mask else {}
    cells = _cells(fields, part, with_label=not is_mask)
    return Entry(image, masks, cells, knows_patient=bool(cells[PATIENT]))


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and value.lower().endswith(SUFFIXES)


def _path(file: Path, where: str, value: Any, *, with_channel: bool = False) -> Path:
    """Returns a file that an item names; `with_channel`, also what version 1 of nnU-Net names without it."""
    names = value if isinstance(value, list) else [value]
    if len(names) != 1 or not isinstance(names[0], str):
        shown = ", ".join(map(str, names))
        what = f"names {len(names)} files ({shown}) for one image or label; one of grey levels is accepted."
        raise DataError.at(where, what)
    path = Path(os.path.normpath(file.parent / spelled(names[0], [file.parent])))
    if with_channel and not path.is_file():
        path = _of_one_channel(path)
    if not path.is_file():
        raise DataError.at(where, f"{path}: there is no such file.")
    return path


def _of_one_channel(path: Path) -> Path:
    """Returns `a_0000.png` for `a.png` if it is there and is the only channel; else the path as it is."""
    stem = without_suffix(path.name)
    ending = path.name.removeprefix(stem)
    first, second = (path.with_name(f"{stem}_{number:04}{ending}") for number in (0, 1))
    return first if first.is_file() and not second.exists() else path


def _cells(fields: Mapping[str, Any], part: str, *, with_label: bool) -> dict[str, str]:
    """Returns fields of one value as text; 7.0 is 7, which pandas writes so where a list lacks values."""
    others = {
        name: str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        for name, value in fields.items()
        if isinstance(value, str | int | float)
        and name not in (IMAGE, PART)
        and not name.startswith(MASK)
        and (name != LABEL or with_label)
    }
    return {PATIENT: "", **others, **({PART: part} if part else {})}


def _labels(file: Path, content: Any) -> tuple[dict[str, dict[str, list[int]]], dict[str, list[str]]]:
    """Returns what the numbers in masks mark, where the file says so: `{"0": "background", "1": "liver"}`."""
    names = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not all(str(number).isdecimal() for number in names):
        return {}, {}
    labels, parts = labels_and_regions({str(name): int(number) for number, name in names.items()}, where=file)
    return {MASK: labels}, parts
