"""`xferlab import`: a table of images and masks, as a `manifest` section reads it."""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from xferlab.cli.findings import grouped
from xferlab.cli.main import COMPLETE
from xferlab.cli.options import ImagesOptions, ImportOptions
from xferlab.cli.output import tell
from xferlab.cli.templates import section_lines
from xferlab.cli.view import count_of
from xferlab.data.sources.manifest.config import IGNORE, MASK
from xferlab.data.sources.manifest.spacing import SPACING, spacing_of
from xferlab.errors import Problem, StorageError, UsageError
from xferlab.importing.folders import joined_by_name
from xferlab.importing.found import PART, PATIENT, TEST, Listing, as_name, with_cells
from xferlab.importing.layouts import layout_of
from xferlab.importing.patients import with_patients
from xferlab.importing.section import guesses, section_of
from xferlab.importing.slices import without_volumes
from xferlab.importing.table import NAME, Written, common_folder, write_table
from xferlab.section import NAME_LENGTH, NAME_PATTERN


def run(options: ImportOptions) -> int:
    """Writes the table, and prints what it holds, what is left out, and the section of a study for it."""
    name, section = imported([options.images, *options.masks], options)
    tell(section={name: section})
    print("\nA study reads it by this section; `xferlab check STUDY` then reads all files:\n\ndata:")
    print(*section_lines(name, section), sep="\n")
    return COMPLETE


def imported(
    folders: Sequence[str], options: ImagesOptions, *, needs_masks: bool = False
) -> tuple[str, dict[str, Any]]:
    """Writes the table of some folders, and prints what it holds and what is left out.

    Args:
        folders: That of the images, then those of the masks, as words of the command line; or the folder or
            file of a published layout.
        options: How patients and masks are found, see `with_patients` and `joined_by_name`; the spacing; the
            name of the layout, where it is not to be found out.
        needs_masks: Whether images without any mask are refused.

    Returns:
        A name for the section of a study that reads it, and the section.

    Raises:
        UsageError: The words do not fit together, or there is no mask, and nothing was written.
    """
    spacing = _spacing(options.spacing_mm)
    with _advising_links():
        images, listing = _listing(folders, options.layout, options.mask)
    if needs_masks and not listing.columns:
        raise UsageError(f"{images}: no image has a mask; give their folder, too: --from IMAGES MASKS")
    listing = with_patients(listing, options.patient, images=images, keep_ids=options.keep_ids)
    listing = with_cells(listing, spacing)
    root = common_folder(listing)
    with _advising_links():
        written = write_table(listing, root)
    gone = (
        Problem(str(root / name), "is named in the table, and not there.", "warning") for name in written.gone
    )
    for problem in grouped([*listing.left_out, *gone]):
        print(problem)
    for remark in listing.remarks:
        print(f"note: {remark}")
    changed = f", {written.changed} changed" if written.changed else ""
    print(f"{root / NAME}: {count_of(len(written.rows), 'image')}, {written.new} of them new{changed}")
    if root != images and (images / NAME).exists():
        print(f"warning: {images / NAME} is another table; nothing is taken from it")
    _summarise(written, listing.columns)
    tell(
        table=root / NAME,
        images=len(written.rows),
        new=written.new,
        changed=written.changed,
        gone=list(written.gone),
        left_out=list(map(asdict, listing.left_out)),
    )
    for column in _outdated(written, listing):
        print(
            f"warning: {root / NAME} keeps its column {column}, which this import does not give: if an "
            "earlier import did, it may no longer hold. Delete the column, unless you made it yourself"
        )
    section = section_of(listing, root)
    for guess in guesses(section, listing):
        print(f"note: {guess}")
    if "where" in section:
        print(f"The section leaves the published test images out; `where: {{{PART}: {TEST}}}` reads them.")
    return as_name(root.name) or "images", section


@contextmanager
def _advising_links() -> Iterator[None]:
    """Says what helps where the folder of the images may not be written, such as on a read-only share."""
    try:
        yield
    except StorageError as error:
        if getattr(error.__cause__, "errno", None) not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise StorageError(
            f"{error}. If you may not write there, make a folder of your own with links to the folders of "
            "images and masks (`ln -s`), and name the links instead"
        ) from error


def _outdated(written: Written, listing: Listing) -> list[str]:
    """Returns the columns of a table that the layout can give, and does not give now."""
    given = {column for entry in listing.images for column in entry.cells}
    columns = [column for column in listing.gives if column not in given]
    return [column for column in columns if any(row.get(column) for row in written.rows)]


def _spacing(given: str | None) -> dict[str, str]:
    """Returns the cells of every image with the spacing that is given.

    Raises:
        UsageError: It is no spacing.
    """
    try:
        return {SPACING: given} if given is not None and spacing_of(given) else {}
    except ValueError as error:
        raise UsageError(f"--spacing-mm {error}") from error


def _listing(folders: Sequence[str], name: str | None, pattern: str | None) -> tuple[Path, Listing]:
    """Returns a folder that holds the images, and what is found there.

    Raises:
        UsageError: A layout is named together with folders of masks, or a pattern without these.
    """
    if pattern and not folders[1:]:
        raise UsageError("--mask says how masks are named; name their folder, too: IMAGES MASKS")
    images = _folder(folders[0])
    if name and folders[1:]:
        raise UsageError("--layout is for one folder or file, which says where the masks are")
    layout = None if folders[1:] else layout_of(images, name)
    if layout is None and images.is_file():
        raise UsageError(f"{images} has no layout that is known; --layout NAME says which one it should have")
    if layout is None:
        masks, parts = _masks(folders[1:])
        return images, replace(without_volumes(joined_by_name(images, masks, pattern)), parts=parts)
    print(f"{images}: read as {layout.title}")
    listing = without_volumes(layout.read(images))
    return common_folder(listing), listing


def _folder(word: str) -> Path:
    """Returns a folder with its links, as files are named as the user sees them; it may not be there.

    Raises:
        UsageError: The path cannot be looked up.
    """
    path = Path(os.path.normpath(os.path.abspath(word)))
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    return path


def _masks(words: Sequence[str]) -> tuple[dict[str, Path], dict[str, list[str]]]:
    """Returns folders by their columns, and structures that are made of several of these.

    The column is `mask`, or `mask_x` of `x=FOLDER`, or `mask_x_1` of the first x of several.

    Raises:
        UsageError: There are several folders and not all have a name, or names or folders that do not fit.
    """
    named = [(name, _folder(folder)) for name, folder in map(_named, words)]
    if len(named) > 1 and not all(name for name, _ in named):
        raise UsageError("masks lie in several folders; say what each marks: NAME=FOLDER")
    if len({folder for _, folder in named}) < len(named):
        raise UsageError("one folder holds the masks of several names; give each name a folder of its own")
    counts, numbers = Counter(name for name, _ in named), Counter[str]()
    masks: dict[str, Path] = {}
    parts: dict[str, list[str]] = {}
    for name, folder in named:
        if name and not re.fullmatch(NAME_PATTERN, name):
            raise UsageError(f"{name!r} is no name of a structure: it has letters, digits, `-` and `_`")
        if name == IGNORE:
            raise UsageError(
                f"{IGNORE!r} is no name of a structure: it is the label of pixels that count nowhere, "
                "which are values in the masks of structures"
            )
        numbers[name] += 1
        own = f"{name}_{numbers[name]}" if counts[name] > 1 else name
        if own != name:
            parts.setdefault(name, []).append(own)
        column = "_".join(filter(None, [MASK, own]))
        if len(column) > NAME_LENGTH:
            raise UsageError(
                f"{own!r} is too long for a structure: its column {column!r} has up to {NAME_LENGTH} letters"
            )
        if column in masks:
            raise UsageError(f"{own!r} is named twice; name the parts of {name!r} otherwise")
        masks[column] = folder
    return masks, parts


def _named(word: str) -> tuple[str, str]:
    """Returns a name, which may be empty, and a folder, whose path may have `=` behind its first `/`."""
    name, sign, folder = word.partition("=")
    return (name, folder) if sign and os.sep not in name else ("", word)


def _summarise(written: Written, columns: Sequence[str]) -> None:
    rows = written.rows
    for column in columns:
        cells = (row.get(column) for row in rows)
        there = sum(bool(cell) and cell not in written.gone for cell in cells)
        print(f"{column}: {there} of {count_of(len(rows), 'image')} have one")
    patients = Counter(row[PATIENT] for row in rows)
    print(
        f"{count_of(len(patients), 'patient')}, with up to {count_of(max(patients.values()), 'image')} each"
    )
    if written.unknown and len(patients) == len(rows):
        print(
            "warning: every image counts as a patient of its own. If people have several, use --patient to "
            "say who is on which: otherwise a network is tested on people that it has seen"
        )
    elif written.unknown:
        print(
            f"warning: nothing says who is on {len(written.unknown)} of {count_of(len(rows), 'image')}, such "
            f"as {written.unknown[0]}: each counts as a patient of its own. Use --patient to say it of all: "
            "otherwise a network is tested on people that it has seen"
        )
