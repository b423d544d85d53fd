"""Public sets in their published folders: files are joined by what their names have in common."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xferlab.data.formats import SUFFIXES
from xferlab.data.sources.manifest.config import MASK
from xferlab.data.sources.manifest.spacing import SPACING
from xferlab.errors import DataError, Problem
from xferlab.importing.folders import walk
from xferlab.importing.found import PATIENT, Entry, Listing, spare_mask
from xferlab.importing.merged import FOLDER, with_merged
from xferlab.importing.pictures import size_of
from xferlab.importing.published import PublishedSet
from xferlab.importing.raw_images import converted
from xferlab.parallel import for_each

ID, PERSON, CLASS, STRATUM = "id", "patient", "class", "pathology"
WRITTEN = "images_png"
"""The folder of images that had to be converted."""
_DEPTH = ("", "*/", "*/*/")
"""How far below the folder that is given those of a set may lie."""


@dataclass(frozen=True)
class _File:
    path: Path
    groups: Mapping[str, str]


def has_marks(path: Path, public: PublishedSet) -> bool:
    """Returns whether a folder has the folders that tell a set apart, not counting those that it imported."""
    return path.is_dir() and all(
        any({WRITTEN, FOLDER}.isdisjoint(mark.parts) for mark in _marks(path, names))
        for names in public.marks
    )


def _marks(path: Path, names: Iterable[str]) -> Iterator[Path]:
    """Yields the folders below one that have one of some names, relative to it."""
    for pattern in (start + name for start in _DEPTH for name in names):
        yield from (mark.relative_to(path) for mark in path.glob(pattern))


def read_public(folder: Path, public: PublishedSet) -> Listing:
    """Returns the images of a public set with their patients and masks.

    Images without a header are written as PNG files into the folder `images_png`, unless they are there, and
    masks of several structures into the folder `masks_png`.

    Raises:
        DataError: No image or no mask is there, two have one id, or a raw image has another size.
        StorageError: A converted image or a mask cannot be written.
    """
    files = sorted(walk(folder, without=[folder / WRITTEN, folder / FOLDER]))
    masks = {name: _matches(folder, files, pattern) for name, pattern in public.masks.items()}
    used = {file.path for of_structure in masks.values() for file in of_structure.values()}
    images = _matches(folder, [path for path in files if path not in used], public.images)
    if not images or (public.masks and not used):
        what = "images" if not images else "masks"
        raise DataError.at(folder, f"holds no {what} named as those of {public.title}.")
    entries = tuple(_entry(id, file, masks, public) for id, file in images.items())
    known = used | {file.path for file in images.values()}
    spare = (
        spare_mask(file.path)
        for of_structure in masks.values()
        for id, file in of_structure.items()
        if id not in images
    )
    left_out = (*spare, *_others(files, known, public))
    listing = Listing(entries, left_out, parts=public.parts, written=folder / FOLDER, root=folder)
    readable = _with_spacing(_readable(listing, folder, public), public)
    return with_merged(readable, public.merged)


def _matches(folder: Path, files: Sequence[Path], pattern: str) -> dict[str, _File]:
    """Returns the files whose paths end as a pattern says, in any case, by id in capital letters.

    Raises:
        DataError: Two files have one id.
    """
    expression = re.compile(f"(?:.*/)?{pattern}", re.IGNORECASE)
    by_id = defaultdict[str, list[_File]](list)
    for path in files:
        if match := expression.fullmatch(path.relative_to(folder).as_posix()):
            by_id[match[ID].upper()].append(_File(path, match.groupdict()))
    doubled = [
        Problem(str(second.path), f"is {id}, as {first.path} is; remove or move one.")
        for id, (first, *others) in by_id.items()
        for second in others
    ]
    if doubled:
        raise DataError(doubled)
    return {id: first for id, (first, *_) in by_id.items()}


def _entry(id: str, image: _File, masks: Mapping[str, Mapping[str, _File]], public: PublishedSet) -> Entry:
    of_image = {name: of_structure[id] for name, of_structure in masks.items() if id in of_structure}
    cells = {
        name: value
        for file in of_image.values()
        for name, value in file.groups.items()
        if name not in (ID, CLASS)
    }
    person = image.groups.get(PERSON)
    patient = f"{public.name}-{person}" if person else id
    cells |= {PATIENT: patient, STRATUM: public.classes[image.groups[CLASS].upper()]}
    paths = {f"{MASK}_{name}": file.path for name, file in of_image.items()}
    return Entry(image.path, paths, cells, knows_patient=True)


def _others(files: Iterable[Path], known: Collection[Path], public: PublishedSet) -> Iterator[Problem]:
    for path in files:
        if path.name.lower().endswith(SUFFIXES) and path not in known:
            what = f"is not named as an image or a mask of {public.title}."
            yield Problem(str(path), what, "warning", "files of other names")


def _readable(listing: Listing, folder: Path, public: PublishedSet) -> Listing:
    """Returns a listing whose images all have a format that a study can read."""
    raw = public.raw
    unread = [entry.image for entry in listing.images if raw and entry.image.suffix.lower() == raw.ending]
    if raw is None or not unread:
        return listing
    written = converted(unread, folder / WRITTEN, raw)
    images = tuple(replace(entry, image=written.get(entry.image, entry.image)) for entry in listing.images)
    remark = (
        f"{len(unread)} images without a header are PNG files in {folder / WRITTEN}, of the size of the masks"
    )
    return replace(listing, images=images, remarks=(remark,))


def _with_spacing(listing: Listing, public: PublishedSet) -> Listing:
    """Returns a listing with the pixel spacing of images that have the shape of the published ones."""
    if (sampling := public.sampling) is None:
        return listing

    def spaced(entry: Entry) -> Entry:
        size = size_of(entry.image)
        spacing = sampling.spacing_of(*size) if size else None
        return replace(entry, cells={**entry.cells, SPACING: f"{spacing:.6g}"}) if spacing else entry

    images = tuple(for_each(listing.images, spaced))
    remarks = listing.remarks
    if unknown := sum(SPACING not in entry.cells for entry in images):
        remarks += (
            f"{unknown} of {len(images)} images have no pixel spacing: their shape is not that of "
            f"{public.title}",
        )
    return replace(listing, images=images, remarks=remarks)
