"""`xferlab import`: a table of images and masks, as a `manifest` section reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

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
    images = Path(options.images)
    listing = joined_by_name(images, _masks(options.masks))
    listing = with_patients(listing, options.patient, images=images, keep_ids=options.keep_ids)
    root = common_folder(listing)
    rows, new = write_table(listing, root)
    for problem in grouped(listing.left_out):
        print(problem)
    print(f"{root / NAME}: {count_of(rows, 'image')}, {new} of them new")
    _tell(listing, options)
    print("\nA study reads it by this section; `xferlab check STUDY` then reads all files:\n\ndata:")
    print(*as_lines(images.absolute().parent.name, section_of(listing, root)), sep="\n")
    return COMPLETE


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


def _tell(listing: Listing, options: ImportOptions) -> None:
    for column in listing.columns:
        there = sum(column in found.masks for found in listing.images)
        print(f"{column}: {there} of {count_of(len(listing.images), 'image')} have one")
    patients = Counter(found.cells[PATIENT] for found in listing.images)
    print(
        f"{count_of(len(patients), 'patient')}, with up to {count_of(max(patients.values()), 'image')} each"
    )
    if options.patient is None:
        print(
            "warning: every image counts as a patient of its own. Where people have several images, say by "
            "--patient who is on which: else a network is tested on people that it has seen."
        )
