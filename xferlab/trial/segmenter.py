"""A trained network with its preprocessing, from a trial's record or from a weights file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from xferlab.data.cache import resized
from xferlab.data.sources import Decoded
from xferlab.errors import DonorError, RecordError
from xferlab.networks.build import build
from xferlab.networks.donors import load_strict, read_weights
from xferlab.networks.state_dicts import Note, silent
from xferlab.networks.translator import translator_in
from xferlab.networks.unet import FIRST_CONVOLUTION
from xferlab.records import codec, layout, reader
from xferlab.records.schema import TrialRecord
from xferlab.records.store import Store
from xferlab.study.sections import structure_of
from xferlab.tasks.segmentation.native_examples import NativeExamples
from xferlab.tasks.segmentation.resized import BinarySegmentation, ImageExamples
from xferlab.training.learner import Task
from xferlab.trial.assemble import network, task_of
from xferlab.trial.origin import trained_weights

_NO_DIGEST = ("0",)  # digests steer augmentation alone


@dataclass(frozen=True)
class TrainedOn:
    """What the records of a trial tell of its weights.

    Attributes:
        record: The trial's record.
        section: Configuration of the data section that it trained on; empty if that is not known.
    """

    record: TrialRecord
    section: Mapping[str, Any]

    @staticmethod
    def record_beside(path: Path, data: bytes) -> TrainedOn | None:
        """Returns what lies beside a weights file: in a storage, or copied with it into one folder.

        None where there is no record, or it is one of other weights than `data`, the bytes of the file.
        """
        for folder in path.absolute().parents[:2]:
            store = Store.open(folder)
            with suppress(RecordError, TypeError, LookupError):  # a file of that name, and of another program
                record = TrialRecord.from_json(codec.read_json(store, "record.json") or {})
                if codec.matches(data, record.weights_sha256):
                    return TrainedOn(record, _section(codec.read_json(store, "spec.json")))
        return None


def _section(spec: Mapping[str, Any] | None) -> Mapping[str, Any]:
    section: Mapping[str, Any] = spec["data"].get(spec["section"], {}) if spec else {}
    return section


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
        section: Configuration of the data section that it trained on; empty if that is not known.
    """

    origin: str
    network: nn.Module
    task: Task[Any, Any]
    size_px: int | Literal["native"]
    intensity: str
    device: torch.device
    section: Mapping[str, Any] = field(default_factory=dict)

    @property
    def structure(self) -> str:
        """Name of what it segments; `structure` if that is not known."""
        return structure_of(self.section)

    @staticmethod
    def of_trial(store: Store, trial_id: str, device: torch.device) -> Segmenter:
        """Returns the best weights of a complete trial, with the preprocessing that it trained with.

        Raises:
            RecordError: The trial is not complete, or its weights were altered.
        """
        record = reader.read_trial(store, trial_id)
        if record is None:
            raise RecordError(f"{store.path(layout.TrialFiles(trial_id).folder)}: is no complete trial")
        trained = TrainedOn(record, _section(codec.read_json(store, layout.TrialFiles(trial_id).spec)))
        origin = f"trial {trial_id}"
        return Segmenter.of_record(trained, trained_weights(store, trial_id), origin=origin, device=device)

    @staticmethod
    def of_record(
        trained: TrainedOn, weights: Mapping[str, torch.Tensor], *, origin: str, device: torch.device
    ) -> Segmenter:
        """Returns the network that a record tells, with these weights.

        Raises:
            DonorError: They do not fit it.
        """
        identity = trained.record.identity
        model = network(identity, device)
        load_strict(model, weights, origin=origin)
        size_px, intensity = identity["model"]["image_size"], identity["training"]["intensity"]
        return Segmenter(origin, model.eval(), task_of(identity), size_px, intensity, device, trained.section)

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
        """Returns the network's output, 0..1 or NaN, of each prepared image, at its size."""
        rows = np.arange(len(prepared))
        examples = self._native(prepared) if self.size_px == "native" else self._square(prepared)
        return list(self.task.predict(self.network, self.task.batch(examples, rows, None)))

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
