"""Predicting image files outside any study: what the task shows of each, and one row of figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xferlab.data.decode import read_image
from xferlab.data.pixels import Picture
from xferlab.errors import DataError, Problem, StorageError, check_names
from xferlab.parallel import for_each
from xferlab.records.store import Store
from xferlab.training.learner import Array
from xferlab.trial import dicom_seg
from xferlab.trial.failure import Kind, kind_of
from xferlab.trial.predictor import NOT_FINITE, Predictor

BATCH_IMAGES = 8

_PROBE = ".xferlab-probe"


@dataclass(frozen=True)
class Request:
    """One file.

    Attributes:
        image: The file.
        name: Its outputs' names without their endings, relative to the output folder.
    """

    image: Path
    name: str


@dataclass(frozen=True)
class Prediction:
    """What was written for one image.

    Attributes:
        request: What was asked.
        files: Names of the outputs, by column.
        columns: Figures about them.
        modality: What a DICOM file says that it was taken with; empty for other files.
    """

    request: Request
    files: Mapping[str, str]
    columns: Mapping[str, str | int | float]
    modality: str = ""

    def row(self) -> dict[str, str | int | float]:
        """Returns the row of `predictions.csv`."""
        return {"input": str(self.request.image), **self.files, **self.columns}


def check_folder(store: Store) -> None:
    """Writes and deletes a file.

    Raises:
        StorageError: Nothing can be written here.
    """
    store.write(_PROBE, b"")
    store.delete(_PROBE)


def predict(
    predictor: Predictor,
    requests: Sequence[Request],
    store: Store,
    *,
    threshold: float,
    with_object: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Prediction], list[Problem]]:
    """Predicts files and writes what the task shows of each.

    Args:
        predictor: The network.
        requests: The files; at most `BATCH_IMAGES` are in memory at once.
        store: The output folder.
        threshold: Of the network's output, where `TrialIdentity.has_threshold`.
        with_object: Whether to write a DICOM-SEG object, too: all files are DICOM images, and the network
            marks structures.
        progress: Called with (done, all) after each file.

    Returns:
        What was found, and what is wrong with the files that could not be read, predicted or written; both in
        the order of the requests.

    Raises:
        StorageError: Nothing can be written to the folder.
    """
    predictions: list[Prediction] = []
    problems: list[Problem] = []
    put = partial(_put, predictor, store, threshold, with_object=with_object)
    for start in range(0, len(requests), BATCH_IMAGES):
        read = for_each(requests[start : start + BATCH_IMAGES], partial(_read, predictor))
        images = [image for image in read if isinstance(image, _Image)]
        progress(start + len(read) - len(images), len(requests))
        outputs = iter(_predicted(predictor, images))
        if images and not predictions:
            check_folder(store)  # reported once, not for each image
        outcomes = [next(outputs) if isinstance(image, _Image) else image for image in read]
        done = for_each(outcomes, lambda outcome: put(outcome) if isinstance(outcome, _Output) else outcome)
        predictions += [outcome for outcome in done if isinstance(outcome, Prediction)]
        problems += [
            problem for outcome in done if not isinstance(outcome, Prediction) for problem in outcome
        ]
        progress(start + len(read), len(requests))
    return predictions, problems


@dataclass(frozen=True)
class _Image:
    """A file's picture, and its pixels as the network gets them."""

    request: Request
    picture: Picture
    prepared: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Output:
    """A file, the network's output for it, and whether it passes the gate, as a column."""

    image: _Image
    probability: Array
    passed: Mapping[str, float]


Problems = tuple[Problem, ...]


def _read(predictor: Predictor, request: Request) -> _Image | Problems:
    try:
        picture = read_image(request.image, own_depth=predictor.own_depth)
        return _Image(request, picture, predictor.prepared(picture))
    except DataError as error:
        return error.problems
    except MemoryError:
        return (Problem(str(request.image), "does not fit into the memory that is free."),)


def _predicted(predictor: Predictor, images: Sequence[_Image]) -> Sequence[_Output | Problems]:
    """Returns the outputs for some images; one after the other where memory does not last for all at once."""
    if not images:
        return []
    try:
        pictures = [image.picture for image in images]
        outputs = predictor.predictions([image.prepared for image in images], pictures)
        passed = predictor.passed(pictures)
    except (RuntimeError, MemoryError) as error:
        if kind_of(type(error).__name__, str(error)) is not Kind.MEMORY:
            raise
        if len(images) > 1:
            return [outcome for image in images for outcome in _predicted(predictor, [image])]
        where, device = str(images[0].request.image), predictor.device.type
        return [(Problem(where, f"does not fit into the memory that is free on the {device} device."),)]
    return [_finite(*output) for output in zip(images, outputs, passed, strict=True)]


def _finite(image: _Image, probability: Array, passed: Mapping[str, float]) -> _Output | Problems:
    if np.isfinite(probability).all():
        return _Output(image, probability, passed)
    return (Problem(str(image.request.image), f"{NOT_FINITE}; nothing is written for it."),)


def _put(
    predictor: Predictor, store: Store, threshold: float, output: _Output, *, with_object: bool
) -> Prediction | Problems:
    """Writes each output whole or not at all."""
    request, picture = output.image.request, output.image.picture
    shown = predictor.present(picture.pixels, output.probability, threshold=threshold)
    check_names("Learner.present", shown.files, declared_in="Task.files", accepted=predictor.files)
    contents, endings = {**shown.files}, {**predictor.files, dicom_seg.COLUMN: dicom_seg.ENDING}
    try:
        if with_object:
            how = f",threshold={threshold:g}" if predictor.identity.has_threshold else ""
            made_by = f"{predictor.made_by}{how}"
            contents[dicom_seg.COLUMN] = dicom_seg.object_of(request.image, shown.masks, made_by=made_by)
        files = {column: request.name + endings[column] for column in contents}
        for column, data in contents.items():
            store.write(files[column], data)
    except DataError as error:
        return error.problems
    except StorageError as error:
        return (Problem(str(request.image), f"its outputs cannot be written: {error}"),)
    return Prediction(request, files, {**shown.columns, **output.passed}, picture.modality)
