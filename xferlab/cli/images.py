"""Which image files a command line means, and what their outputs are called."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xferlab.data.decode import is_dicom, is_image_file
from xferlab.data.formats import without_suffix
from xferlab.errors import DataError, Problem, UsageError


@dataclass(frozen=True)
class ImageFiles:
    """Files to work on.

    Attributes:
        images: Output name without ending -> file, sorted by file.
        problems: Folders that cannot be read, and objects in folders that mark images.
        num_skipped: Files in folders that are no images.
    """

    images: Mapping[str, Path]
    problems: Sequence[Problem]
    num_skipped: int


def find(paths: Sequence[str], *, out: str) -> ImageFiles:
    """Returns the files that were named, and the images in the folders that were named.

    A folder is searched with all its folders, but without hidden files and `out`. Outputs of a folder keep
    their paths relative to it, those of a named file its name. Where two outputs would have one name, they
    keep the folders below what all paths have in common, and then their suffixes, too. A named file is taken
    under any name. DICOM-SEG objects in folders are left out.

    Raises:
        UsageError: Outputs would lie among the images of a folder.
    """
    problems, num_skipped = list[Problem](), 0
    files: dict[str, Path] = {}
    folders = [path for path in paths if os.path.isdir(path)]
    for named in paths:
        for path in _files(named, out, problems) if named in folders else [Path(named)]:
            if named in folders and not is_image_file(path):
                num_skipped += 1
            elif named in folders and _marks_images(path):
                what = "is a DICOM-SEG object, and no image."
                problems.append(Problem(str(path), what, "warning", "objects that mark images"))
            else:
                files.setdefault(os.path.abspath(path), path)
    roots = list(map(os.path.abspath, folders))
    base = os.path.commonpath([*roots, *map(os.path.dirname, files)])
    images = _named(files, roots, base)
    _check_out(out, roots)
    return ImageFiles(images, problems, num_skipped)


def _marks_images(path: Path) -> bool:
    from xferlab.data.dicom_file import read_header  # pydicom takes a while to import

    try:
        return is_dicom(path) and str(read_header(path, "Modality").get("Modality", "")) == "SEG"
    except DataError:  # predicting it says what is wrong with it
        return False


def _files(folder: str, out: str, problems: list[Problem]) -> Iterator[Path]:
    """Yields all files below a folder, but for hidden folders and `out`."""

    def note(error: OSError) -> None:
        problems.append(Problem(str(error.filename), f"cannot be searched: {error.strerror}."))

    outputs = os.path.realpath(out)
    for parent, inner, names in os.walk(folder, onerror=note):
        yield from (Path(parent, name) for name in names)
        visible = [name for name in inner if not name.startswith(".")]
        inner[:] = [name for name in visible if os.path.realpath(os.path.join(parent, name)) != outputs]


def _named(files: Mapping[str, Path], roots: Sequence[str], base: str) -> dict[str, Path]:
    """Returns the files by the names of their outputs, which are as short as sets them apart."""
    names = {file: _names(file, roots, base) for file in files}
    lengths = dict.fromkeys(files, 0)
    while True:
        owners = defaultdict(list)
        for file in sorted(files):
            owners[names[file][lengths[file]]].append(file)
        clashes = [file for group in owners.values() if len(group) > 1 for file in group]
        if not clashes:
            return {name: files[file] for name, (file,) in owners.items()}
        for file in clashes:
            lengths[file] = min(lengths[file] + 1, len(names[file]) - 1)


def _names(file: str, roots: Sequence[str], base: str) -> tuple[str, str, str]:
    """Returns the names that the outputs of a file may have, the shortest first."""
    holding = [root for root in roots if os.path.commonpath([root, file]) == root]
    root = min(holding, key=len, default=os.path.dirname(file))  # the outermost folder that was named
    short, long = os.path.relpath(file, root), os.path.relpath(file, base)
    return without_suffix(short), without_suffix(long), long


def _check_out(out: str, searched: Sequence[str]) -> None:
    if os.path.realpath(out) in map(os.path.realpath, searched):
        raise UsageError(
            f"--out: {out} is where the images are; another folder is needed, or the next search would take "
            f"outputs for images. For example: --out {os.path.join(out, 'predictions')}"
        )


def check_outputs(images: Mapping[str, Path], *, out: str, endings: Collection[str]) -> None:
    """Refuses a folder for outputs where one would replace an image.

    Args:
        images: As `find` gives them.
        out: The folder.
        endings: Of the names of outputs.

    Raises:
        UsageError: Names the first such output.
    """
    inputs = {os.path.realpath(path) for path in images.values()}
    for name, path in images.items():
        for ending in endings:
            output = os.path.join(out, name + ending)
            if os.path.realpath(output) in inputs:
                raise UsageError(f"--out: {output}, of {path}, would replace an image; give another folder")
