"""Data sets of nnU-Net: `dataset.json`, numbered channels in `imagesTr`, and label numbers in `labelsTr`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xferlab.data.sources.manifest.config import MASK
from xferlab.errors import DataError, Problem, composed
from xferlab.importing.found import FOLD, PART, PATIENT, TEST, TRAINING, Entry, Listing, spare_mask
from xferlab.importing.json_file import has_fields, read_json
from xferlab.importing.labels import labels_and_regions

DESCRIPTION, SPLITS = "dataset.json", "splits_final.json"
FIRST_CHANNEL = "0000"
_FOLDERS = {TRAINING: ("imagesTr", "labelsTr"), TEST: ("imagesTs", "labelsTs")}
_PREPROCESSED = "nnUNet_preprocessed"


def is_nnunet(path: Path) -> bool:
    """Returns whether a folder has the description and the images of a data set."""
    return (path / DESCRIPTION).is_file() and (path / _FOLDERS[TRAINING][0]).is_dir()


def read_nnunet(folder: Path) -> Listing:
    """Returns the images of a data set with their masks; those of `imagesTs` are of the part `test`.

    The fold of a training image is that of `splits_final.json` which validates on it, see `_folds`.

    Raises:
        DataError: The description lacks a field, names no label, or images have several channels in files of
            their own.
    """
    content = read_json(folder / DESCRIPTION)
    if not has_fields(content, "labels", "channel_names", "file_ending"):
        raise DataError.at(
            folder / DESCRIPTION,
            "lacks `labels`, `channel_names` or `file_ending`, which version 2 of nnU-Net has. A list of "
            "images and labels in it can be imported by its own name: give the file in place of the folder.",
        )
    ending, left_out = str(content["file_ending"]), list[Problem]()
    by_part = {part: _cases(folder / images, ending, left_out) for part, (images, _) in _FOLDERS.items()}
    _check_channels(folder, content["channel_names"])
    folds, remarks = _folds(folder, by_part[TRAINING])
    entries: list[Entry] = []
    for part, cases in by_part.items():
        masks = _files(folder / _FOLDERS[part][1], ending, left_out)
        left_out += [spare_mask(path) for case, path in masks.items() if case not in cases]
        of_part = {PART: part} if by_part[TEST] else {}
        for case, image in cases.items():
            mask = {MASK: masks[case]} if case in masks else {}
            entries.append(Entry(image, mask, {PATIENT: case, **of_part, **folds.get(case, {})}))
    labels, parts = labels_and_regions(content["labels"], where=folder / DESCRIPTION)
    return Listing(tuple(entries), tuple(left_out), {MASK: labels}, parts, remarks, gives=(PART, FOLD))


def _files(folder: Path, ending: str, left_out: list[Problem]) -> dict[str, Path]:
    """Returns the files of a folder by their names without the ending; none if there is no such folder."""
    if not folder.is_dir():
        return {}
    files = dict[str, Path]()
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if path.name.endswith(ending):
            files[composed(path.name.removesuffix(ending))] = path
        else:
            what = f"does not end with {ending}."
            left_out.append(Problem(str(path), what, "warning", "files with other endings"))
    return files


def _cases(folder: Path, ending: str, left_out: list[Problem]) -> dict[str, Path]:
    """Returns the image of each case.

    Raises:
        DataError: A case has several channels in files of their own, or none has the name of an image.
    """
    cases, numbers = dict[str, Path](), set[str]()
    for name, path in _files(folder, ending, left_out).items():
        case, _, number = name.rpartition("_")
        if not re.fullmatch("[0-9]{4}", number):
            what = f"is not named CASE_{FIRST_CHANNEL}{ending}, as images of nnU-Net are."
            left_out.append(Problem(str(path), what, "warning", "images of other names"))
        else:
            numbers.add(number)
            cases[case] = path
    if numbers - {FIRST_CHANNEL}:
        raise DataError.at(
            folder,
            f"has channels in files of their own ({', '.join(sorted(numbers))}); an image of xferlab is one "
            f"file of grey levels. Copy one channel into a data set of its own, as {FIRST_CHANNEL}.",
        )
    if folder.name == _FOLDERS[TRAINING][0] and not cases:
        raise DataError.at(folder, f"holds no image named CASE_{FIRST_CHANNEL}{ending}.")
    return cases


def _check_channels(folder: Path, channels: Any) -> None:
    """Refuses more channels than a colour picture has, which has them in one file."""
    names = [str(name) for name in channels.values()] if isinstance(channels, dict) else []
    if len(names) not in (1, 3):
        raise DataError.at(
            folder / DESCRIPTION,
            f"names {len(names)} channels ({', '.join(names)}); one grey channel is accepted, or the three "
            "of a colour picture in one file.",
        )


def _folds(folder: Path, cases: Mapping[str, Path]) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """Returns the number of the fold that validates on each case, which nnU-Net counts from 0, and remarks.

    The file lies in the folder, or in that of the preprocessed data set beside `nnUNet_raw`. Where a case is
    validated in no fold or in several, there are no folds.
    """
    candidates = (folder / SPLITS, folder.parent.parent / _PREPROCESSED / folder.name / SPLITS)
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        return {}, ()
    folds = read_json(path)
    if not isinstance(folds, list) or not all(has_fields(fold, "train", "val") for fold in folds):
        raise DataError.at(path, "is no list of folds with `train` and `val`.")
    validated = [
        (composed(str(case)), str(number)) for number, fold in enumerate(folds) for case in fold["val"]
    ]
    counts = Counter(case for case, _ in validated)
    if counts.keys() != cases.keys() or max(counts.values()) > 1:
        return {}, (f"{path} is no cross-validation of these images, so it gives no column {FOLD}",)
    return {case: {FOLD: number} for case, number in validated}, (
        f"the column {FOLD} is from {path}; `split: {{by: {FOLD}}}` tests on each fold in turn",
    )
