"""Images in one folder, and their masks in others: joined by their names."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

from xferlab.data.decode import is_image_file
from xferlab.data.formats import SUFFIXES, without_suffix
from xferlab.errors import DataError, Problem, composed
from xferlab.importing.found import Entry, Listing, spare_mask
from xferlab.importing.mask_names import MaskPattern, joined_by_pattern, read_names

LOOKED_AT = 500
"""Masks whose names are compared with those of images, to see what they have in common."""
_NUMBER = r"[ _-]?\(?[0-9]+\)?"
"""What second masks of an image have behind the name of the first one."""
Affixes = tuple[str, str]
"""What the name of a mask has before and after that of its image."""


def joined_by_name(images: Path, masks: Mapping[str, Path], pattern: str | None = None) -> Listing:
    """Returns the images of a folder, each with the masks of its name.

    Names are paths below the folders, without their endings. Those of all masks of a folder may begin or end
    with something more, such as `001_mask.png` for `001.png`: what most of them have is found out.

    Args:
        images: Folder of images; may hold the masks, too. Hidden files and folders are passed over.
        masks: Folders of masks, by their columns in the table.
        pattern: How masks are named, in place of what is found out; see `MaskPattern`.

    Raises:
        DataError: A folder is not there, holds no images, or none of its masks belongs to an image; or the
            masks of one folder have names of several kinds, or an image has two, such as `1_mask` and
            `1_mask_1`.
        UsageError: The pattern does not say where the name of the image is.
    """
    named_as = MaskPattern(pattern) if pattern else None
    files = files_of(images, without=[folder for folder in masks.values() if folder != images])
    of_column: dict[str, dict[str, Path]] = {}
    left_out: list[Problem] = []
    not_images: set[str] = set()
    for column, folder in masks.items():
        is_same = folder == images
        candidates = files if is_same else files_of(folder)
        if named_as:
            found = read_names(named_as, folder, candidates)
            others = files.keys() - found.keys() if is_same else files
            of_image, known_masks = joined_by_pattern(named_as, folder, found, others), set(found)
        else:
            of_image, known_masks = _joined_by_affixes(folder, candidates, files, is_same=is_same)
        of_column[column] = {name: candidates[mask] for name, mask in of_image.items()}
        used = set(of_image.values())
        spare = [mask for mask in candidates if mask not in used and (mask in known_masks or not is_same)]
        left_out += [spare_mask(candidates[mask]) for mask in spare]
        if is_same:
            not_images |= used | known_masks
    entries = tuple(
        Entry(path, {column: paths[name] for column, paths in of_column.items() if name in paths})
        for name, path in files.items()
        if name not in not_images
    )
    return Listing(entries, tuple(left_out))


def files_of(folder: Path, *, without: Collection[Path] = ()) -> dict[str, Path]:
    """Returns the images below a folder by their names: paths without endings, in order, in Unicode's NFC.

    Links are followed. Folders in `without` are passed over.

    Raises:
        DataError: It is no folder, holds no images, names that are no text, or two that differ in their
            endings only.
    """
    if not folder.is_dir():
        raise DataError.at(folder, "there is no such folder.")
    named: dict[str, Path] = {}
    problems: list[Problem] = []
    for path in sorted(path for path in walk(folder, without=without) if is_image_file(path)):
        name = composed(without_suffix(path.relative_to(folder).as_posix()))
        if name in named:
            problems.append(Problem(str(path), f"has the name of {named[name]}; remove or rename one."))
        elif not name.isprintable():
            problems.append(
                Problem(ascii(str(path)), "has letters in its name that cannot be written; rename it.")
            )
        named.setdefault(name, path)
    if problems:
        raise DataError(problems)
    if not named:
        raise DataError.at(folder, f"holds no images ({', '.join(SUFFIXES)}).")
    return named


def walk(folder: Path, *, without: Collection[Path] = ()) -> Iterator[Path]:
    """Yields all files below a folder but for hidden ones and those below `without`; links are followed."""
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # links may lead in a circle
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [
            inner for inner in folders if not inner.startswith(".") and Path(parent, inner) not in without
        ]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def _joined_by_affixes(
    folder: Path, masks: Mapping[str, Path], images: Collection[str], *, is_same: bool
) -> tuple[dict[str, str], set[str]]:
    """Returns the name of the mask of each image that has one, and all files that are named as masks are.

    Raises:
        DataError: None has one, masks have names of several kinds, or an image has a second mask.
    """
    before, after = _affixes(folder, masks, images, is_same=is_same)
    named = {name: f"{_beside(name, before)}{after}" for name in images}
    joined = {name: mask for name, mask in named.items() if mask in masks}
    if not joined or (is_same and not before + after):
        raise DataError.at(folder, _nothing_joins(masks, images))
    _refuse_second_masks(masks, joined, after)
    is_mask = re.compile(f"(?:.*/)?{re.escape(before)}[^/]+{re.escape(after)}(?:{_NUMBER})?").fullmatch
    return joined, {mask for mask in masks if is_mask(mask) and mask not in joined}


def _refuse_second_masks(masks: Mapping[str, Path], joined: Mapping[str, str], after: str) -> None:
    """Refuses masks such as `1_mask_1` beside `1_mask`; `1_1` beside `1` may be that of another image."""
    if not _has_letter(("", after)):
        return
    firsts = set(joined.values())
    problems = [
        Problem(str(path), f"is a second mask of one image, beside {masks[first]}; draw both into one file.")
        for mask, path in masks.items()
        if (first := re.sub(f"{_NUMBER}$", "", mask)) in firsts and mask not in firsts and mask not in joined
    ]
    if problems:
        raise DataError(problems)


def _affixes(
    folder: Path, masks: Sequence[str] | Mapping[str, Path], images: Collection[str], *, is_same: bool
) -> Affixes:
    """Returns what most masks have before and after the name of an image in their folder; may be empty.

    In one folder with the images it has a letter: `11` is no mask of `1`.

    Raises:
        DataError: Half as many others have something else there, which has a letter.
    """
    # Not every n-th of them: in the order of their names, every second one may be an image.
    some = Random(0).sample([*masks], min(len(masks), LOOKED_AT))
    having = defaultdict[Affixes, set[str]](set)
    for mask in some:
        for affixes in _readings(mask, images):
            if not is_same or _has_letter(affixes):
                having[affixes].add(mask)
    if not having:
        return "", ""
    # Of those that occur alike often, the shortest: `1_mask` is that of `1` rather than of nothing.
    first, *others = sorted(
        having, key=lambda affixes: (-len(having[affixes]), len("".join(affixes)), affixes)
    )
    rivals = [
        affixes
        for affixes in others
        if _has_letter(affixes) and 2 * len(having[affixes] - having[first]) >= len(having[first])
    ]
    if rivals:
        kinds = " and ".join(repr(f"{before}NAME{after}") for before, after in (first, *rivals[:2]))
        raise DataError.at(
            folder,
            f"its files are named {kinds}; give masks of each kind a folder of their own, or say by --mask "
            "which of them count.",
        )
    return first


def _has_letter(affixes: Affixes) -> bool:
    return any(map(str.isalpha, "".join(affixes)))


def _readings(mask: str, images: Collection[str]) -> Iterator[Affixes]:
    """Yields what stands around every image's name that the name of a mask contains."""
    folder, _, name = mask.rpartition("/")
    start = f"{folder}/" if folder else ""
    for first in range(len(name)):
        for last in range(first + 1, len(name) + 1):
            if f"{start}{name[first:last]}" in images:
                yield name[:first], name[last:]


def _beside(name: str, before: str) -> str:
    """Returns a name in its folder with something before it."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{before}{last}"


def _nothing_joins(masks: Collection[str], images: Collection[str]) -> str:
    return (
        f"no mask has the name of an image: masks are called {_shown(masks)}, images {_shown(images)}. A "
        "mask needs its image's name, with the same words before or after it in all masks; else --mask says "
        "how masks are named."
    )


def _shown(names: Collection[str]) -> str:
    first = sorted(names)[:2]
    return ", ".join(map(repr, first)) + (", ..." if len(names) > len(first) else "")
