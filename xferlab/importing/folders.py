"""Images in one folder, and their masks in others: joined by their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from xferlab.errors import DataError, Problem
from xferlab.importing.found import Found, Listing

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")


def joined_by_name(images: Path, masks: Mapping[str, Path]) -> Listing:
    """Returns the images of a folder, each with the masks of its name.

    Names are paths below the folders, without their endings. Those of all masks of a folder may begin or end
    with something more, such as `001_mask.png` for `001.png`: what most of them have is found out.

    Args:
        images: Folder of images; may hold the masks, too.
        masks: Folders of masks, by their columns in the table.

    Raises:
        DataError: A folder is not there, holds no images, or none of its masks belongs to an image.
    """
    files = files_of(images)
    of_column: dict[str, dict[str, Path]] = {}
    left_out: list[Problem] = []
    not_images: set[str] = set()
    for column, folder in masks.items():
        is_same = folder.resolve() == images.resolve()
        there = files if is_same else files_of(folder)
        before, after = _affixes(there, files, is_same=is_same)
        named = {name: f"{_beside(name, before)}{after}" for name in files}
        of_column[column] = {
            name: there[mask]
            for name, mask in named.items()
            if mask in there and (mask != name or not is_same)
        }
        if not of_column[column]:
            raise DataError.at(folder, _nothing_joins(there, files))
        used = {named[name] for name in of_column[column]}
        if is_same:
            not_images |= used
        else:
            left_out += [_spare(there[name]) for name in there if name not in used]
    found = tuple(
        Found(path, {column: of[name] for column, of in of_column.items() if name in of})
        for name, path in files.items()
        if name not in not_images
    )
    return Listing(found, tuple(left_out))


def files_of(folder: Path) -> dict[str, Path]:
    """Returns the images below a folder by their names: paths without endings, in order.

    Raises:
        DataError: It is no folder, holds no images, or two that differ in their endings only.
    """
    if not folder.is_dir():
        raise DataError.at(folder, "there is no such folder.")
    named: dict[str, Path] = {}
    problems: list[Problem] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in named:
            problems.append(Problem(str(path), f"has the name of {named[name]}; remove or rename one."))
        named.setdefault(name, path)
    if problems:
        raise DataError(problems)
    if not named:
        raise DataError.at(folder, f"holds no images ({', '.join(SUFFIXES)}).")
    return named


def _affixes(masks: Collection[str], images: Collection[str], *, is_same: bool) -> tuple[str, str]:
    """Returns what most masks have before and after the name of an image in their folder; may be empty."""
    counts = Counter(affixes for mask in masks for affixes in _readings(mask, images, is_same=is_same))
    # Of those that occur alike often, the shortest: `1_mask` is that of `1` rather than of nothing.
    return min(counts, key=lambda affixes: (-counts[affixes], len("".join(affixes))), default=("", ""))


def _readings(mask: str, images: Collection[str], *, is_same: bool) -> Iterator[tuple[str, str]]:
    """Yields what stands around every image's name that the name of a mask contains."""
    folder, _, name = mask.rpartition("/")
    start = f"{folder}/" if folder else ""
    for first in range(len(name)):
        for last in range(first + 1, len(name) + 1):
            affixes = name[:first], name[last:]
            if f"{start}{name[first:last]}" in images and (any(affixes) or not is_same):
                yield affixes


def _beside(name: str, before: str) -> str:
    """Returns a name in its folder with something before it."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{before}{last}"


def _spare(path: Path) -> Problem:
    return Problem(str(path), "is the mask of no image.", "warning", "masks without an image")


def _nothing_joins(masks: Collection[str], images: Collection[str]) -> str:
    return (
        f"no mask has the name of an image: masks are called {_shown(masks)}, images {_shown(images)}. A "
        "mask needs its image's name, with the same words before or after it in all masks."
    )


def _shown(names: Collection[str]) -> str:
    first = sorted(names)[:2]
    return ", ".join(map(repr, first)) + (", ..." if len(names) > len(first) else "")
