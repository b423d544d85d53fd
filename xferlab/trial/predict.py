"""Segmenting image files outside any study: a mask, an overlay and one row of figures for each."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.ndimage import label
from torch import nn

from xferlab.data.cache import resized
from xferlab.data.decode import read_image
from xferlab.data.parallel import for_each
from xferlab.data.sources import Decoded
from xferlab.errors import DataError, DonorError, Problem, RecordError
from xferlab.models.build import build
from xferlab.models.donors import load_strict, read_weights
from xferlab.models.state_dicts import Note, silent
from xferlab.models.translator import translator_in
from xferlab.models.unet import FIRST_CONVOLUTION
from xferlab.records import layout, reader
from xferlab.records.store import Store
from xferlab.training.native_examples import NativeExamples
from xferlab.training.segmentation import BinarySegmentation, ImageExamples
from xferlab.training.task import Task
from xferlab.trial.assemble import network, task_of
from xferlab.trial.origin import trained_weights
from xferlab.trial.overlay import MASK_ENDING, OVERLAY_ENDING, overlay

BATCH_IMAGES = 8

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)
_NO_DIGEST = ("0",)  # digests steer augmentation alone
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
    """

    request: Request
    width: int
    height: int
    pixels: int
    components: int


@dataclass(frozen=True)
class Segmenter:
    """A trained network with its preprocessing.

    Attributes:
        origin: Where its weights are from, for messages.
        network: In evaluation mode, on its device.
        task: How images become its input.
        size_px: Side of the square that images are stretched to; `native` leaves each as it is.
        intensity: How grey levels are normalised.
        device: Of the network.
    """

    origin: str
    network: nn.Module
    task: Task[Any, Any]
    size_px: int | Literal["native"]
    intensity: str
    device: torch.device

    @staticmethod
    def of_trial(store: Store, trial_id: str, device: torch.device) -> Segmenter:
        """Returns the best weights of a complete trial, with the preprocessing that it trained with.

        Raises:
            RecordError: The trial is not complete, or its weights were altered.
        """
        record = reader.read_trial(store, trial_id)
        if record is None:
            raise RecordError(f"{store.path(layout.trial_dir(trial_id))}: is no complete trial")
        model, origin = network(record.identity, device), f"trial {trial_id}"
        load_strict(model, trained_weights(store, trial_id), origin=origin)
        size_px, intensity = record.identity["model"]["image_size"], record.identity["training"]["intensity"]
        return Segmenter(origin, model.eval(), task_of(record.identity), size_px, intensity, device)

    @staticmethod
    def of_weights(
        path: Path, *, size_px: int, intensity: str, device: torch.device, note: Note = silent
    ) -> Segmenter:
        """Returns the network of a weights file; its shapes are those of the weights.

        Args:
            path: A state dict of the U-Net: `.safetensors`, or a file of `torch.save`.
            size_px: Side of the images that it was trained on; a multiple of 16.
            intensity: A key of `training.intensity.INTENSITIES`, as it was trained with.
            device: Where to put it.
            note: Told if the file is a checkpoint, or its names have a wrapper's prefix.

        Raises:
            DonorError: The file cannot be read or its weights are not those of a U-Net with one output.
        """
        state = read_weights(path, note=note)
        first = state.get(FIRST_CONVOLUTION)
        if first is None or first.ndim != 4:
            raise DonorError(
                f"{path}: found no {FIRST_CONVOLUTION!r} of four dimensions; accepted: the weights of a "
                "unet, such as checkpoint/best.safetensors of a trial."
            )
        width, channels = first.shape[:2]
        model = build(
            "unet",
            in_channels=channels,
            out_channels=1,
            init_features=width,
            translator=translator_in(state),
        )
        load_strict(model, state, origin=str(path))
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        task = BinarySegmentation(in_channels=channels, intensity=intensity)
        return Segmenter(str(path), model.eval(), task, size_px, intensity, device)

    def prepared(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Returns a grey image `(H, W)` as the image cache holds it: `(1, size_px, size_px)`, or native."""
        if self.size_px == "native":
            return image[None]
        no_target = np.zeros((1, 1), np.uint8)
        return resized(Decoded(image, no_target), self.size_px)[0]

    def probabilities(self, prepared: Sequence[npt.NDArray[np.uint8]]) -> Sequence[npt.NDArray[np.float32]]:
        """Returns the network's output, 0..1, of each prepared image, at its size.

        Raises:
            DonorError: An output is not finite.
        """
        rows = np.arange(len(prepared))
        examples = self._native(prepared) if self.size_px == "native" else self._square(prepared)
        found = list(self.task.predict(self.network, self.task.batch(examples, rows, None)))
        if not all(np.isfinite(one).all() for one in found):
            raise DonorError(
                f"{self.origin}: its outputs are not finite; the weights are damaged, or were trained with "
                "another intensity or image size."
            )
        return found

    def _square(self, prepared: Sequence[npt.NDArray[np.uint8]]) -> ImageExamples:
        images, spacing_mm = np.stack(prepared), np.full((len(prepared), 2), np.nan, np.float32)
        targets = np.zeros((len(images), *images.shape[2:]), np.uint8)
        rows, digests = np.arange(len(images)), _NO_DIGEST * len(images)
        return ImageExamples(digests, images, targets, spacing_mm, rows=rows, device=self.device)

    def _native(self, prepared: Sequence[npt.NDArray[np.uint8]]) -> NativeExamples:
        rows, digests = np.arange(len(prepared)), _NO_DIGEST * len(prepared)
        return NativeExamples(digests, _Untargeted(tuple(prepared)), rows=rows, device=self.device)


@dataclass(frozen=True)
class _Untargeted:
    """Images of any size about which nothing else is known."""

    images: tuple[npt.NDArray[np.uint8], ...]

    @property
    def spacing_mm(self) -> npt.NDArray[np.float32]:
        return np.full((len(self.images), 2), np.nan, np.float32)

    def image(self, row: int) -> npt.NDArray[np.uint8]:
        return self.images[row]

    def target(self, row: int) -> npt.NDArray[np.uint8]:
        return np.zeros(self.images[row].shape[1:], np.uint8)


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
        What was found, and what is wrong with the files that cannot be read; both in the order of the
        requests.

    Raises:
        StorageError: An output cannot be written.
        DonorError: The network's output is not finite.
    """
    predictions: list[Prediction] = []
    problems: list[Problem] = []
    for start in range(0, len(requests), BATCH_IMAGES):
        read = for_each(requests[start : start + BATCH_IMAGES], lambda one: _read(segmenter, one))
        images = [one for one in read if isinstance(one, _Image)]
        problems += [problem for one in read if not isinstance(one, _Image) for problem in one]
        before = start + len(read) - len(images)
        progress(before, len(requests))
        if not images:
            continue
        outputs = segmenter.probabilities([one.prepared for one in images])
        predictions += for_each(
            list(zip(images, outputs, strict=True)),
            lambda pair: folder.put(pair[0].request, pair[0].pixels, pair[1]),
            progress=lambda done, _, before=before: progress(before + done, len(requests)),  # type: ignore[misc]
        )
    return predictions, problems


@dataclass(frozen=True)
class _Image:
    """A file's pixels as they are and as the network gets them."""

    request: Request
    pixels: npt.NDArray[np.uint8]
    prepared: npt.NDArray[np.uint8]


def _read(segmenter: Segmenter, request: Request) -> _Image | tuple[Problem, ...]:
    try:
        pixels = read_image(request.image).pixels
    except DataError as error:
        return error.problems
    return _Image(request, pixels, segmenter.prepared(pixels))


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format="PNG", compress_level=_PNG_LEVEL)
    return sink.getvalue()


def columns(prediction: Prediction) -> Mapping[str, Any]:
    """Returns a prediction as a row of `predictions.csv`."""
    request = prediction.request
    return {
        "input": str(request.image),
        "mask": request.name + MASK_ENDING,
        "overlay": request.name + OVERLAY_ENDING,
        "width": prediction.width,
        "height": prediction.height,
        "lung_pixels": prediction.pixels,
        "lung_share": round(prediction.pixels / (prediction.width * prediction.height), 6),
        "components": prediction.components,
    }
