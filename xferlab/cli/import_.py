"""`xferlab import`: a table of images and masks, as a `manifest` section reads it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xferlab.cli.findings import grouped
from xferlab.cli.main import COMPLETE
from xferlab.cli.options import ImportOptions
from xferlab.cli.view import count_of
from xferlab.errors import UsageError
from xferlab.importing.folders import joined_by_name
from xferlab.importing.found import Listing
from xferlab.importing.patients import PATIENT, with_patients
from xferlab.importing.section import MASK, as_lines, section_of
from xferlab.importing.table import NAME, common_folder, write_table


def run(options: ImportOptions) -> int:
    """Writes the table, and prints what it holds, what is left out, and the section of a study for it."""
    name, section = imported([options.images, *options.masks], options.patient, keep_ids=options.keep_ids)
    print("\nA study reads it by this section; `xferlab check STUDY` then reads all files:\n\ndata:")
    print(*as_lines(name, section), sep="\n")
    return COMPLETE


def imported(
    folders: Sequence[str], patient: str | None, *, keep_ids: bool = False
) -> tuple[str, dict[str, Any]]:
    """Writes the table of some folders, and prints what it holds and what is left out.

    Args:
        folders: That of the images, then those of the masks, as words of the command line.
        patient: How patients are found, see `with_patients`.
        keep_ids: Whether ids of headers stay as they are.

    Returns:
        A name for the section of a study that reads it, and the section.
    """
    images = Path(folders[0])
    listing = joined_by_name(images, _masks(folders[1:]))
    listing = with_patients(listing, patient, images=images, keep_ids=keep_ids)
    root = common_folder(listing)
    rows, new = write_table(listing, root)
    for problem in grouped(listing.left_out):
        print(problem)
    print(f"{root / NAME}: {count_of(rows, 'image')}, {new} of them new")
    _tell(listing, is_guess=patient is None)
    return as_name(root.name) or "images", section_of(listing, root)


def as_name(text: str) -> str:
    """Returns letters, digits, `-` and `_` of a text, as names in studies have them; may be empty."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_-")


def _masks(words: Sequence[str]) -> dict[str, Path]:
    """Returns folders by columns: `mask`, `mask_x` of `x=FOLDER`, or `mask_x_1` of the first x of two.

    Raises:
        UsageError: There are several folders, and not all have a name.
    """
    named = [(name, Path(folder)) for name, _, folder in (word.rpartition("=") for word in words)]
    if len(named) > 1 and not all(name for name, _ in named):
        raise UsageError("masks lie in several folders; say what each marks: NAME=FOLDER")
    counts, numbers = Counter(name for name, _ in named), Counter[str]()
    masks: dict[str, Path] = {}
    for name, folder in named:
        numbers[name] += 1
        parts = [MASK, *filter(None, [name]), *([str(numbers[name])] if counts[name] > 1 else [])]
        masks["_".join(parts)] = folder
    return masks


def _tell(listing: Listing, *, is_guess: bool) -> None:
    for column in listing.columns:
        there = sum(column in found.masks for found in listing.images)
        print(f"{column}: {there} of {count_of(len(listing.images), 'image')} have one")
    patients = Counter(found.cells[PATIENT] for found in listing.images)
    print(
        f"{count_of(len(patients), 'patient')}, with up to {count_of(max(patients.values()), 'image')} each"
    )
    if is_guess:
        print(
            "warning: every image counts as a patient of its own. Where people have several images, say by "
            "--patient who is on which: else a network is tested on people that it has seen."
        )
