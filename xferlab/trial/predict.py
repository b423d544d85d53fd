"""Segmenting image files outside any study: a mask, an overlay and one row of figures for each."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import label

from xferlab.data.decode import read_image
from xferlab.errors import DataError, Problem, StorageError
from xferlab.parallel import for_each
from xferlab.records.store import Store
from xferlab.trial.failure import Kind, kind_of
from xferlab.trial.overlay import MASK_ENDING, OVERLAY_ENDING, overlay
from xferlab.trial.segmenter import Segmenter

BATCH_IMAGES = 8

_PROBE = ".xferlab-probe"

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)
_PNG_LEVEL = 3  # twice as fast as the default, for a tenth more bytes


@dataclass(frozen=True)
class Request:
    """One file to segment.

    Attributes:
        image: The file.
        name: Its outputs' names without their endings, relative to the output folder.
    """

    image: Path
    name: str


@dataclass(frozen=True)
class Prediction:
    """What was found in one image.

    Attributes:
        request: What was asked.
        width: Of the image and its mask, px.
        height: Likewise.
        pixels: Pixels of the structure.
        components: Its connected components, pixels at a corner belonging together; 0 if there is none.
        modality: What a DICOM file says that it was taken with; empty for other files.
    """

    request: Request
    width: int
    height: int
    pixels: int
    components: int
    modality: str = ""


def at_size(probability: npt.NDArray[np.float32], *, width: int, height: int) -> npt.NDArray[np.float32]:
    """Returns a probability map stretched to `(height, width)`, bilinear, antialiased where it shrinks."""
    picture = Image.fromarray(np.ascontiguousarray(probability))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


@dataclass(frozen=True)
class Folder:
    """Where outputs go, and how they are made.

    Attributes:
        store: The output folder.
        threshold: A pixel belongs to the structure where the probability is above it.
    """

    store: Store
    threshold: float

    def check(self) -> None:
        """Writes and deletes a file.

        Raises:
            StorageError: Nothing can be written here.
        """
        self.store.write(_PROBE, b"")
        self.store.delete(_PROBE)

    def put(
        self, request: Request, image: npt.NDArray[np.uint8], probability: npt.NDArray[np.float32]
    ) -> Prediction:
        """Writes mask and overlay at the image's size, each whole or not at all; pixels only, no metadata.

        Raises:
            StorageError: They cannot be written.
        """
        height, width = image.shape
        mask = at_size(probability, width=width, height=height) > self.threshold
        self.store.write(request.name + MASK_ENDING, _png(mask * np.uint8(255)))
        self.store.write(request.name + OVERLAY_ENDING, _png(overlay(image, mask)))
        _, components = label(mask, structure=_EIGHT_NEIGHBOURS)
        return Prediction(request, width, height, int(mask.sum()), int(components))


def segment(
    segmenter: Segmenter,
    requests: Sequence[Request],
    folder: Folder,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Prediction], list[Problem]]:
    """Segments files and writes their masks and overlays.

    Args:
        segmenter: The network.
        requests: The files; at most `BATCH_IMAGES` are in memory at once.
        folder: Where outputs go.
        progress: Told (done, all) after each file.

    Returns:
        What was found, and what is wrong with the files that could not be read, segmented or written; both in
        the order of the requests.

    Raises:
        StorageError: Nothing can be written to the folder.
    """
    predictions: list[Prediction] = []
    problems: list[Problem] = []
    for start in range(0, len(requests), BATCH_IMAGES):
        read = for_each(requests[start : start + BATCH_IMAGES], lambda one: _read(segmenter, one))
        images = [one for one in read if isinstance(one, _Image)]
        progress(start + len(read) - len(images), len(requests))
        outputs = iter(_predicted(segmenter, images))
        if images and not predictions:
            folder.check()  # told once, not for each image
        outcomes = [next(outputs) if isinstance(one, _Image) else one for one in read]
        done = for_each(outcomes, lambda one: _put(folder, one) if isinstance(one, _Output) else one)
        predictions += [one for one in done if isinstance(one, Prediction)]
        problems += [problem for one in done if not isinstance(one, Prediction) for problem in one]
        progress(start + len(read), len(requests))
    return predictions, problems


@dataclass(frozen=True)
class _Image:
    """A file's pixels as they are and as the network gets them."""

    request: Request
    pixels: npt.NDArray[np.uint8]
    prepared: npt.NDArray[np.uint8]
    modality: str


@dataclass(frozen=True)
class _Output:
    """A file and the network's output for it."""

    image: _Image
    probability: npt.NDArray[np.float32]


Problems = tuple[Problem, ...]


def _read(segmenter: Segmenter, request: Request) -> _Image | Problems:
    try:
        picture = read_image(request.image)
        return _Image(request, picture.pixels, segmenter.prepared(picture.pixels), picture.modality)
    except DataError as error:
        return error.problems
    except MemoryError:
        return (Problem(str(request.image), "does not fit into the memory that is free."),)


def _predicted(segmenter: Segmenter, images: Sequence[_Image]) -> Sequence[_Output | Problems]:
    """Returns the outputs for some images; one after the other where memory does not last for all at once."""
    if not images:
        return []
    try:
        found = segmenter.probabilities([one.prepared for one in images])
    except (RuntimeError, MemoryError) as error:
        if kind_of(type(error).__name__, str(error)) is not Kind.MEMORY:
            raise
        if len(images) > 1:
            return [outcome for one in images for outcome in _predicted(segmenter, [one])]
        where, device = str(images[0].request.image), segmenter.device.type
        return [(Problem(where, f"does not fit into the memory that is free on the {device} device."),)]
    return [_finite(image, one) for image, one in zip(images, found, strict=True)]


def _finite(image: _Image, probability: npt.NDArray[np.float32]) -> _Output | Problems:
    if np.isfinite(probability).all():
        return _Output(image, probability)
    what = "the network's output is not finite, although its weights are; no mask is written."
    return (Problem(str(image.request.image), what),)


def _put(folder: Folder, output: _Output) -> Prediction | Problems:
    image = output.image
    try:
        found = folder.put(image.request, image.pixels, output.probability)
        return replace(found, modality=image.modality)
    except StorageError as error:
        return (Problem(str(image.request.image), f"its outputs cannot be written: {error}"),)


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format="PNG", compress_level=_PNG_LEVEL)
    return sink.getvalue()


def columns(prediction: Prediction, structure: str) -> Mapping[str, Any]:
    """Returns a prediction of a structure as a row of `predictions.csv`."""
    request = prediction.request
    return {
        "input": str(request.image),
        "mask": request.name + MASK_ENDING,
        "overlay": request.name + OVERLAY_ENDING,
        "width": prediction.width,
        "height": prediction.height,
        f"{structure}_pixels": prediction.pixels,
        f"{structure}_share": round(prediction.pixels / (prediction.width * prediction.height), 6),
        "components": prediction.components,
    }
