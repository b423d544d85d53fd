"""A trained network with its preprocessing, from a trial's record or from a weights file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from xferlab.cohort import single_sections
from xferlab.data.cache import resized
from xferlab.data.preprocessing import degraded, height_without_band, recipe
from xferlab.data.sources.registry import DataSection, section_if_known
from xferlab.data.sources.source import Decoded
from xferlab.errors import RecordError
from xferlab.networks.donors import read_weights
from xferlab.networks.state_dicts import Note, silent
from xferlab.records import codec, layout, reader
from xferlab.records.schema import TrialRecord
from xferlab.records.store import Store
from xferlab.tasks import registry
from xferlab.tasks.config import TrialIdentity
from xferlab.training.examples import untargeted
from xferlab.training.learner import Array
from xferlab.trial.origin import trained_weights
from xferlab.trial.training import AnyLearner, load_weights


@dataclass(frozen=True)
class TrainedOn:
    """What the records of a trial tell of its weights.

    Attributes:
        record: The trial's record.
        sections: Configurations of the data sections that it trained on; empty if they are not known.
        targets: Names of what it learnt; empty if they are not known.
    """

    record: TrialRecord
    sections: tuple[DataSection, ...]
    targets: tuple[str, ...]

    @staticmethod
    def record_beside(path: Path, data: bytes) -> TrainedOn | None:
        """Returns what lies beside a weights file: in a storage, or copied with it into one folder.

        None where there is no record, or it is one of other weights than `data`, the bytes of the file.
        """
        for folder in path.absolute().parents[:2]:
            store = Store.open(folder)
            with suppress(RecordError, TypeError, LookupError):  # a file of that name, and of another program
                record = TrialRecord.from_json(codec.read_json(store, layout.RECORD) or {})
                if codec.matches(data, record.weights_sha256):
                    return TrainedOn.of(record, codec.read_json(store, layout.SPEC))
        return None

    @staticmethod
    def of(record: TrialRecord, spec: Mapping[str, Any] | None) -> TrainedOn:
        """Takes a trial's record and, where it is at hand, its spec."""
        names = single_sections(spec["section"]) if spec else ()
        known = [section_if_known(spec["data"].get(name, {})) for name in names] if spec else []
        sections = tuple(section for section in known if section)
        # Specs of earlier versions have no targets; those trials learnt one structure of their section.
        targets = (spec or {}).get("targets", sections[0].targets[:1] if sections else ())
        return TrainedOn(record, sections, tuple(targets))


@dataclass(frozen=True)
class Predictor:
    """A trained network with its preprocessing.

    Attributes:
        origin: Where its weights are from, for messages.
        learner: With the trained weights, on its device.
        identity: Of its training, with its preprocessing.
        device: Of the network.
        sections: Configurations of the data sections that it trained on; empty if they are not known.
        targets: Names of what it learnt.
    """

    origin: str
    learner: AnyLearner
    identity: TrialIdentity
    device: torch.device
    sections: tuple[DataSection, ...] = ()
    targets: tuple[str, ...] = ()

    @property
    def section(self) -> DataSection | None:
        """The first data section that it trained on, as which files are read; None if it is not known."""
        return next(iter(self.sections), None)

    @property
    def reads_alike(self) -> bool:
        """Whether all sections that it trained on do the same to their images."""
        return len({str(recipe(section)) for section in self.sections}) < 2

    @staticmethod
    def of_trial(store: Store, trial_id: str, device: torch.device) -> Predictor:
        """Returns the best weights of a complete trial, with the preprocessing that it trained with.

        Raises:
            RecordError: The trial is not complete, or its weights were altered.
        """
        record = reader.read_trial(store, trial_id)
        if record is None:
            raise RecordError(f"{store.path(layout.TrialFiles(trial_id).folder)}: is no complete trial")
        trained = TrainedOn.of(record, codec.read_json(store, layout.TrialFiles(trial_id).spec))
        origin = f"trial {trial_id}"
        return Predictor.of_record(trained, trained_weights(store, trial_id), origin=origin, device=device)

    @staticmethod
    def of_record(
        trained: TrainedOn, weights: Mapping[str, torch.Tensor], *, origin: str, device: torch.device
    ) -> Predictor:
        """Returns the network that a record tells, with these weights.

        Raises:
            DonorError: They do not fit it.
        """
        identity = registry.identity_of(trained.record.identity)
        loaded = _loaded(identity, weights, origin=origin, device=device)
        return replace(loaded, sections=trained.sections, targets=trained.targets or loaded.targets)

    @staticmethod
    def of_weights(
        path: Path, *, options: Mapping[str, Any], device: torch.device, note: Note = silent
    ) -> Predictor:
        """Returns the network of a weights file; its shapes are those of the weights.

        Args:
            path: A state dict of a network of a task with `of_weights`: `.safetensors`, or a file of
                `torch.save`.
            options: What weights do not tell, as for `registry.identity_of_weights`.
            device: Where to put it.
            note: Called if the file is a checkpoint, or its names have a wrapper's prefix.

        Raises:
            DonorError: The file cannot be read or its weights are not those of such a network.
            UsageError: An option is absent or not accepted.
        """
        weights = read_weights(path, note=note)
        identity = registry.identity_of_weights(weights, origin=str(path), options=options)
        return _loaded(identity, weights, origin=str(path), device=device)

    def seen(self, image: npt.NDArray[np.uint8]) -> int:
        """Returns how many rows of a grey image, from the top, the network is shown."""
        crops = self.section is not None and self.section.crop_black_band
        return height_without_band(image) if crops else len(image)

    def prepared(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Returns a grey image `(H, W)` as the image cache holds it: `(1, size, size)`, or native."""
        size, image = self.identity.image_size, image[: self.seen(image)]
        if self.section is not None and self.section.degrade_to:
            image = degraded(image, self.section.degrade_to)
        if size == "native":
            return image[None]
        return resized(Decoded(image, np.empty((0, *image.shape[:2]), np.uint8)), size)[0]

    def predictions(self, prepared: Sequence[npt.NDArray[np.uint8]]) -> Sequence[Array]:
        """Returns the learner's output of each prepared image; it may hold NaN."""
        examples = untargeted(prepared, self.identity.image_size, device=self.device)
        return self.learner.predict(self.learner.load(examples, np.arange(len(prepared)), None))


def _loaded(
    identity: TrialIdentity, weights: Mapping[str, torch.Tensor], *, origin: str, device: torch.device
) -> Predictor:
    learner = registry.learner_of(identity, device)
    load_weights(learner, weights, origin=origin)
    return Predictor(origin, learner, identity, device, targets=identity.default_targets)
