"""Which image files a command line means, and what their outputs are called."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xferlab.data.decode import is_dicom
from xferlab.errors import DataError, Problem, UsageError
from xferlab.trial.overlay import MASK_ENDING, OVERLAY_ENDING

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom")
_DICOM_INDEX = "DICOMDIR"


@dataclass
class Found:
    """Files to work on.

    Attributes:
        images: Output name without ending -> file, sorted by file.
        problems: Folders that cannot be read.
        num_skipped: Files in folders that are no images.
    """

    images: Mapping[str, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    num_skipped: int = 0


def find(paths: Sequence[str], *, out: str) -> Found:
    """Returns the files that were named, and the images in the folders that were named.

    A folder is searched with all its folders, but without hidden files and `out`. Outputs of a folder keep
    their paths relative to it, those of a named file its name. Where two outputs would have one name, they
    keep the folders below what all paths have in common, and then their suffixes, too. A named file is taken
    whatever its name.

    Raises:
        UsageError: Outputs would lie among the images of a folder, or replace one of them.
    """
    found = Found()
    files: dict[str, Path] = {}
    folders = [path for path in paths if os.path.isdir(path)]
    for named in paths:
        for path in _search(named, out, found) if named in folders else (Path(named),):
            files.setdefault(os.path.abspath(path), path)
    roots = list(map(os.path.abspath, folders))
    base = os.path.commonpath([*roots, *(os.path.dirname(f) for f in files)])
    found.images = _named(files, roots, base)
    _check_out(found.images, out, roots)
    return found


def _search(folder: str, out: str, found: Found) -> Iterator[Path]:
    def refused(error: OSError) -> None:
        found.problems.append(Problem(str(error.filename), f"cannot be searched: {error.strerror}."))

    outputs = os.path.realpath(out)
    for parent, inner, names in os.walk(folder, onerror=refused):
        inner[:] = [
            name
            for name in inner
            if not name.startswith(".") and os.path.realpath(os.path.join(parent, name)) != outputs
        ]
        for name in names:
            path = Path(parent, name)
            if _is_image(path):
                yield path
            else:
                found.num_skipped += 1


def _is_image(path: Path) -> bool:
    if path.name.startswith(".") or path.name.upper() == _DICOM_INDEX:
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        return is_dicom(path)
    except DataError:  # unreadable, and nothing tells that it is an image
        return False


def _named(files: Mapping[str, Path], roots: Sequence[str], base: str) -> dict[str, Path]:
    """Returns the files by the names of their outputs, which are as short as sets them apart."""
    names = {file: _without_suffix(os.path.relpath(file, _root(file, roots))) for file in files}
    longer: list[Callable[[str], str]] = [
        lambda file: _without_suffix(os.path.relpath(file, base)),
        lambda file: os.path.relpath(file, base),
    ]
    while True:
        owners = defaultdict(list)
        for file, name in names.items():
            owners[name].append(file)
        clashes = [file for group in owners.values() if len(group) > 1 for file in group]
        if not clashes:
            return {names[file]: files[file] for file in sorted(files)}
        longest = longer[0] if len(longer) > 1 else longer[-1]
        lengthened = {file: longest(file) for file in clashes}
        if all(names[file] == name for file, name in lengthened.items()):
            longer.pop(0)
        names.update(lengthened)


def _root(file: str, roots: Sequence[str]) -> str:
    """Returns the outermost folder that was named and holds a file; for a named file the folder it is in."""
    holding = [root for root in roots if os.path.commonpath([root, file]) == root]
    return min(holding, key=len, default=os.path.dirname(file))


def _without_suffix(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    # Other endings are part of the name: DICOM files are often called by a number with dots.
    return stem if suffix.lower() in SUFFIXES else name


def _check_out(images: Mapping[str, Path], out: str, searched: Sequence[str]) -> None:
    if os.path.realpath(out) in map(os.path.realpath, searched):
        raise UsageError(
            f"--out: {out} is where the images are; another folder is needed, or the next search would take "
            f"masks for images. For example: --out {os.path.join(out, 'predictions')}"
        )
    inputs = {os.path.realpath(path) for path in images.values()}
    for name, path in images.items():
        for ending in (MASK_ENDING, OVERLAY_ENDING):
            output = os.path.join(out, name + ending)
            if os.path.realpath(output) in inputs:
                raise UsageError(f"--out: {output}, of {path}, would replace an image; give another folder")
