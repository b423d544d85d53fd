"""Images with outlines or run lengths in a file of COCO: masks are drawn into PNG files."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xferlab.data.formats import without_suffix
from xferlab.data.pixels import check_size
from xferlab.data.sources.manifest.config import MASK
from xferlab.errors import DataError, Problem, attempt
from xferlab.importing.found import Entry, Listing, as_file_name, parted, spelled, structure_name
from xferlab.importing.json_file import has_fields, json_in, read_json
from xferlab.importing.outlines import mask_of
from xferlab.importing.pictures import MARKED, write_mask
from xferlab.importing.table import folder_of
from xferlab.parallel import for_each

_LISTS = ("images", "annotations", "categories")
_SPLIT_OF = "instances_"
"""What stands before the name of the images' folder in that of the file, in the data set COCO itself."""


@dataclass(frozen=True)
class _Image:
    """An image that a file names.

    Attributes:
        id: What annotations call it.
        path: Where it is.
        name: As the file has it, without ending, and without what would lead out of a folder.
        size: Rows and columns.
    """

    id: str
    path: Path
    name: str
    size: tuple[int, int]


def is_coco(path: Path) -> bool:
    """Returns whether a file has the lists of COCO."""
    return has_fields(json_in(path), *_LISTS)


def read_coco(file: Path) -> Listing:
    """Returns the images of a file of COCO, with a mask of each category that occurs in the file.

    Masks are written into the folder `masks_NAME`, where NAME is the file's, in the folder that holds the
    file and all images. An image with an annotation has masks of all categories; one without any has none.

    Raises:
        DataError: The file cannot be read, or none of its images is there.
        UsageError: The file and its images lie in no common folder.
        StorageError: A mask cannot be written.
    """
    content = read_json(file)
    if not all(has_fields(content, name) and isinstance(content[name], list) for name in _LISTS):
        raise DataError.at(file, f"lacks one of the lists {', '.join(_LISTS)}, which a file of COCO has.")
    names = _categories(file, content["categories"])
    items = (attempt(_image, file, item) for item in content["images"])
    images, left_out = parted(list(items), "images that are left out")
    if not images:
        first = f" {left_out[0].where}: {left_out[0].what}" if left_out else ""
        raise DataError.at(file, f"names no image that is there.{first}")
    _check_names(file, images)
    outlines, unknown = _outlines(file, content, names)
    left_out += unknown
    used = [name for name in names.values() if any(name in of_image for of_image in outlines.values())]
    folder = folder_of([file, *(image.path for image in images)]) / f"masks_{as_file_name(file.stem)}"
    drawn = for_each(
        images, lambda image: _drawn(image, outlines.get(image.id, {}), used, folder=folder, file=file)
    )
    left_out += [problem for _, problems in drawn for problem in problems]
    bare = sum(image.id not in outlines for image in images)
    remarks = [f"the masks are drawn into {folder}"]
    if bare:
        remarks.append(f"{bare} images have no annotation, so they have no mask, either")
    labels = {f"{MASK}_{name}": {name: [MARKED]} for name in used}
    entries = tuple(entry for entry, _ in drawn)
    return Listing(
        entries, tuple(left_out), labels, remarks=tuple(remarks), written=folder, root=folder.parent
    )


def _image(file: Path, item: Any) -> _Image:
    """Returns one image of a file.

    Raises:
        DataError: The item lacks a field, or its file is not there, or in several folders.
    """
    if not has_fields(item, "id", "file_name", "width", "height"):
        raise DataError.at(file, "has an image without `id`, `file_name`, `width` or `height`.")
    given, size = str(item["file_name"]), (item["height"], item["width"])
    if not all(isinstance(length, int) for length in size):
        raise DataError.at(file, f"gives the size of {given} as {size}; whole numbers are accepted.")
    check_size(Path(given), width=size[1], height=size[0])
    above = file.parent.parent
    split = above / file.stem.removeprefix(_SPLIT_OF)
    folders = (file.parent, file.parent / "images", above, above / "images", split)
    name = spelled(given, folders)
    candidates = [Path(os.path.normpath(folder / name)) for folder in folders]
    files = [path for path in dict.fromkeys(candidates) if path.is_file()]
    if len(files) == 1:
        return _Image(str(item["id"]), files[0], _inside(name), size)
    shown = ", ".join(str(path.parent) for path in files) or ", ".join(map(str, folders))
    raise DataError.at(name, f"is in {'several' if files else 'none'} of the folders {shown}.")


def _categories(file: Path, categories: Any) -> dict[str, str]:
    """Returns the names of structures by the ids of categories.

    Raises:
        DataError: Two agree but for signs that a name cannot have, or one has no other signs.
    """
    names: dict[str, str] = {}
    for category in categories:
        fields = category if isinstance(category, dict) else {}
        what = f"category {category}"
        name = structure_name(str(fields.get("name", "")), names.values(), where=file, what=what)
        names[str(fields.get("id"))] = name
    return names


def _outlines(
    file: Path, content: Any, names: Mapping[str, str]
) -> tuple[dict[str, dict[str, list[Any]]], list[Problem]]:
    """Returns the outlines by image and by the name of their category, and annotations of neither."""
    known = {str(item.get("id")) for item in content["images"] if isinstance(item, dict)}
    outlines, unknown = defaultdict[str, dict[str, list[Any]]](dict), list[Problem]()
    for number, annotation in enumerate(content["annotations"]):
        fields = annotation if isinstance(annotation, dict) else {}
        image, category = str(fields.get("image_id")), str(fields.get("category_id"))
        if image in known and category in names:
            outlines[image].setdefault(names[category], []).append(fields.get("segmentation"))
        else:
            what = f"annotations[{number}] is of an image or a category that the file does not have."
            unknown.append(Problem(str(file), what, "warning", "annotations of nothing in the file"))
    return outlines, unknown


def _check_names(file: Path, images: Sequence[_Image]) -> None:
    """Refuses images that share an id, or a name, which their masks would have."""
    problems = [
        Problem(str(file), f"has two images {value!r}; rename one, or leave it out.")
        for values in ([image.id for image in images], [image.name for image in images])
        for value, number in Counter(values).items()
        if number > 1
    ]
    if problems:
        raise DataError(problems)


def _drawn(
    image: _Image, outlines: Mapping[str, Sequence[Any]], names: Sequence[str], *, folder: Path, file: Path
) -> tuple[Entry, list[Problem]]:
    """Draws the masks of an image; a structure with an outline that cannot be drawn has none."""
    masks, problems = dict[str, Path](), list[Problem]()
    for name in names if outlines else ():
        path = folder / name / f"{image.name}.png"
        try:
            mask = np.zeros(image.size, bool)
            for outline in outlines.get(name, ()):
                mask |= mask_of(outline, image.size)
        except (ValueError, TypeError, OverflowError) as error:
            what = f"an annotation of {image.name} {error}; the image has no mask of {name}."
            problems.append(Problem(str(file), what, "warning", "annotations that cannot be drawn"))
            continue
        write_mask(path, mask)
        masks[f"{MASK}_{name}"] = path
    return Entry(image.path, masks), problems


def _inside(name: str) -> str:
    """Returns a name without its ending that stays below a folder."""
    parts: Iterator[str] = (part for part in Path(without_suffix(name)).parts if part not in ("..", "/"))
    return "/".join(parts)
