"""A trained network with its preprocessing, from a trial's record or from a weights file."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from xferlab.cohort import STEPS
from xferlab.data.cache import resized
from xferlab.data.pixels import Picture
from xferlab.data.preprocessing import height_without_band, recipe
from xferlab.data.sources.described import DescribedSection
from xferlab.data.sources.registry import DataSection
from xferlab.data.sources.source import Decoded, with_steps
from xferlab.errors import DataError, RecordError, UsageError, suggest
from xferlab.metrics.measuring import THRESHOLD, check_threshold
from xferlab.metrics.metric import PASSED
from xferlab.networks.donors import file_sha256, read_weights
from xferlab.networks.state_dicts import Note, silent
from xferlab.plan.spec import GATE, MASKS, Input
from xferlab.records import codec, layout, reader
from xferlab.records.store import Store
from xferlab.tasks import registry
from xferlab.tasks.config import TrialIdentity
from xferlab.training.examples import AnyExamples, untargeted
from xferlab.training.learner import Array, Presented
from xferlab.trial.given import Masks, passes
from xferlab.trial.origin import trained_weights
from xferlab.trial.trained_on import CONFIG, TAKEN, UNKNOWN_STEPS, TrainedOn
from xferlab.trial.training import AnyLearner, load_weights

NOT_FINITE = "the network's output is not finite, although its weights are"


@dataclass(frozen=True)
class Predictor:
    """A trained network with its preprocessing.

    Attributes:
        origin: Where its weights are from, for messages.
        made_by: Which weights these are, as `key=value`: a trial, or the digest of a file.
        learner: With the trained weights, on its device.
        identity: Of its training, with its preprocessing.
        device: Of the network.
        sections: Configurations of the data sections that it trained on; empty if they are not known.
        targets: Names of what it learnt.
        givers: Of what it takes of the predictions of others: the networks that predict that, and what is
            taken, by role.
    """

    origin: str
    made_by: str
    learner: AnyLearner
    identity: TrialIdentity
    device: torch.device
    sections: tuple[DataSection | DescribedSection, ...] = ()
    targets: tuple[str, ...] = ()
    givers: Mapping[str, tuple[Predictor, Input]] = field(default_factory=dict)

    def __repr__(self) -> str:
        size, what = self.identity.image_size, ", ".join(self.targets)
        shown = "images of native size" if size == "native" else f"images of {size} px"
        task = f"{self.identity.task}{f' of {what}' if what else ''}"
        return f"Predictor({self.origin}: {task}, {shown}, {self.device.type})"

    @property
    def section(self) -> DataSection | DescribedSection | None:
        """The first data section that it trained on, as which files are read; None if it is not known."""
        return next(iter(self.sections), None)

    @property
    def reads_alike(self) -> bool:
        """Whether all sections that it trained on do the same to their images."""
        return len({str(recipe(section)) for section in self.sections}) < 2

    @property
    def readings(self) -> str:
        """What the sections that it trained on do to their images where that differs, as warnings say it."""
        steps = (
            ", ".join(
                f"{name}: {json.dumps(value)}" for name in STEPS if (value := getattr(section, name, None))
            )
            for section in self.sections
        )
        told = "; ".join(f"{number}: {each or 'none'}" for number, each in enumerate(steps, 1))
        return (
            "these weights were trained on several data sections that differ in what they do to their images "
            f"({told}); images are read as those of the first"
        )

    @staticmethod
    def of_trial(store: Store, trial_id: str, device: torch.device) -> Predictor:
        """Returns the best weights of a complete trial, with the preprocessing that it trained with.

        Where it takes predictions of other trials, those of its repetition predict them, of images that are
        read as its own are.

        Raises:
            RecordError: The trial, or one that predicts for it, is not complete, or its weights were altered.
        """
        record = reader.read_trial(store, trial_id)
        if record is None:
            raise RecordError(f"{store.path(layout.TrialFiles(trial_id).folder)}: is no complete trial")
        trained = TrainedOn.of(record, codec.read_json(store, layout.TrialFiles(trial_id).spec))
        origin = f"trial {trial_id}"
        weights = trained_weights(store, trial_id)
        own = Predictor._of_record(trained, weights, origin=origin, device=device)
        givers = {}
        for given in trained.takes:
            giver = Predictor.of_trial(store, given.trials[0], device)
            givers[given.role] = replace(giver, sections=own.sections), given
        return replace(own, givers=givers)

    @staticmethod
    def of_record(
        trained: TrainedOn, weights: Mapping[str, torch.Tensor], *, origin: str, device: torch.device
    ) -> Predictor:
        """Returns the network that a record tells, with these weights, where it needs no other network.

        Raises:
            DonorError: They do not fit it.
            UsageError: It takes predictions of other trials, which a file does not give, or the names of its
                targets are not known.
        """
        identity = registry.identity_of(trained.record.identity)
        taken = " and ".join(words for role, words in TAKEN.items() if getattr(identity, role))
        if taken:
            raise UsageError(
                f"{origin}: these weights need {taken} of another stage of their study, which a file does "
                "not give; name the trial (arm/stage/rNN, or its id) with its --study or --storage"
            )
        return Predictor._of_record(trained, weights, origin=origin, device=device)

    @staticmethod
    def _of_record(
        trained: TrainedOn, weights: Mapping[str, torch.Tensor], *, origin: str, device: torch.device
    ) -> Predictor:
        identity = registry.identity_of(trained.record.identity)
        kind = registry.task(identity.task).targets
        if kind and trained.targets is None and not identity.default_targets:
            raise UsageError(
                f"{origin}: the record does not hold the names of the {kind} that it predicts; copy the "
                f"trial's {layout.SPEC}, or the {CONFIG} of an export, into the folder of {layout.RECORD}"
            )
        made_by = f"trial={trained.record.trial_id}"
        loaded = _loaded(identity, weights, origin=origin, made_by=made_by, device=device)
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
        made_by = f"weights_sha256={file_sha256(path)}"
        return _loaded(identity, weights, origin=str(path), made_by=made_by, device=device)

    def predict(self, image: npt.NDArray[np.uint8], *, threshold: float | None = None) -> Presented:
        """Returns what the task shows of its prediction of a grey image, as `xferlab predict` writes it.

        Args:
            image: uint8, `(H, W)`, of any size.
            threshold: Of the output, 0 to below 1, where the network has one; 0.5 if it is not given.

        Raises:
            UsageError: The image is of another type or shape or has no pixels, or the threshold is not
                accepted.
            DataError: The network's output is not finite.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 2 or not image.size:
            what = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise UsageError(
                f"image: found {what}; accepted: a grey image with pixels, a NumPy array of uint8 (H, W)"
            )
        accepted = self.accepted_threshold(threshold)
        picture = Picture(image)
        (output,) = self.predictions([self.prepared(picture)], [picture])
        if not np.isfinite(output).all():
            raise DataError.at("image", f"{NOT_FINITE}.")
        (passed,) = self.passed([picture])
        shown = self.present(image, output, threshold=accepted)
        return replace(shown, columns={**shown.columns, **passed})

    def accepted_threshold(self, threshold: float | None, *, name: str = "threshold") -> float:
        """Returns a threshold that `present` takes: the given one, or the default.

        Args:
            threshold: As for `predict`.
            name: What it is called where it was given, for messages.

        Raises:
            UsageError: It is no number from 0 to below 1, or the outputs of the network have none.
        """
        if threshold is None:
            return THRESHOLD
        check_threshold(threshold, name=name)
        if not self.identity.has_threshold:
            raise UsageError(
                f"{name}: the outputs of this network (task {self.identity.task!r}) have none. Leave this "
                "option out."
            )
        return threshold

    def seen(self, image: npt.NDArray[np.uint8]) -> int:
        """Returns how many rows of a grey image, from the top, the network is shown."""
        crops = self.section is not None and self.section.crop_black_band
        return height_without_band(image) if crops else len(image)

    @property
    def own_depth(self) -> bool:
        """Whether pictures need their levels, see `read_image`."""
        return self.section is not None and self.section.own_depth

    def prepared(self, picture: Picture) -> npt.NDArray[np.uint8]:
        """Returns a grey picture as the image cache holds it: `(1, size, size)`, or native."""
        no_targets = np.empty((0, *picture.pixels.shape), np.uint8)
        decoded = Decoded(picture.pixels, no_targets, levels=picture.levels)
        if self.section is not None:
            decoded = with_steps(decoded, self.section.reading(()))
        size = self.identity.image_size
        return decoded.image[None] if size == "native" else resized(decoded, size)[0]

    def predictions(
        self, prepared: Sequence[npt.NDArray[np.uint8]], pictures: Sequence[Picture] = ()
    ) -> Sequence[Array]:
        """Returns the learner's output of each prepared image; it may hold NaN.

        Args:
            prepared: The images as `prepared` gives them.
            pictures: The same images, of which others predict what the network takes.
        """
        examples = self.examples(prepared, pictures)
        return self.learner.predict(self.learner.load(examples, np.arange(len(prepared)), None))

    def examples(
        self, prepared: Sequence[npt.NDArray[np.uint8]], pictures: Sequence[Picture] = ()
    ) -> AnyExamples:
        """Returns prepared images as the learner takes them; arguments as of `predictions`."""
        examples = untargeted(prepared, self.identity.image_size, device=self.device)
        if MASKS in self.givers:
            _, given = self.givers[MASKS]
            examples.masks = Masks(given, self._given(MASKS, pictures).__getitem__)
        return examples

    @property
    def files(self) -> Mapping[str, str]:
        """The endings of the files that `present` returns, by their columns."""
        return registry.task(self.identity.task).files(self.targets)

    def present(self, image: npt.NDArray[np.uint8], prediction: Array, *, threshold: float) -> Presented:
        """Returns what is written of a prediction for a grey image (H, W)."""
        return self.learner.present(
            image, prediction, height=self.seen(image), targets=self.targets, threshold=threshold
        )

    def passed(self, pictures: Sequence[Picture]) -> list[dict[str, float]]:
        """Returns of each picture whether it passes the gate, as a column; none without a gate."""
        if GATE not in self.givers:
            return [{} for _ in pictures]
        _, given = self.givers[GATE]
        return [{PASSED.name: int(passes(given, arrays))} for arrays in self._given(GATE, pictures)]

    def _given(self, role: str, pictures: Sequence[Picture]) -> list[Mapping[str, npt.NDArray[Any]]]:
        """What another network predicts of pictures for this one."""
        giver, given = self.givers[role]
        outputs = giver.predictions(list(map(giver.prepared, pictures)), pictures)
        return [giver.learner.for_others(output, given.threshold or 0.0) for output in outputs]


@runtime_checkable
class Stored(Protocol):
    """A study's results: where they are, and the ids of its trials by name."""

    @property
    def store(self) -> Store:
        """The storage."""

    @property
    def trial_names(self) -> Mapping[str, str]:
        """Ids by `arm/stage/rNN`."""


def predictor(results: Stored, trial: str, *, device: str = "cpu") -> Predictor:
    """Returns the best weights of a complete trial of a study, with the preprocessing that it trained with.

    Args:
        results: What `load_study` returns.
        trial: Its name, `arm/stage/rNN`, or its id.
        device: Where it computes, as PyTorch names it, such as `cuda`.

    Warns:
        UserWarning: The steps of its data section are not known, as where the package of its source is not
            installed.

    Raises:
        UsageError: These are no results, the study has no such trial, or there is no such device.
        RecordError: It is not complete, or its weights were altered.
    """
    given: object = results
    if not isinstance(given, Stored):
        kind = type(given).__name__
        raise UsageError(f"results: found a value of type {kind}; accepted: what `load_study` returns")
    names = results.trial_names
    trial_id = names.get(trial, trial)
    if trial_id not in names.values():
        raise UsageError(
            f"trial: found {trial!r}; accepted: arm/stage/rNN of the study, such as "
            f"{next(iter(names), 'none')}, or an id.{suggest(trial, names)}"
        )
    loaded = Predictor.of_trial(results.store, trial_id, _device(device))
    if not loaded.sections:
        warnings.warn(f"{trial}: {UNKNOWN_STEPS}", stacklevel=2)
    return loaded


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # fails where PyTorch knows the device, and the machine has none
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise UsageError(
            f"device: found {name!r}, on which PyTorch cannot compute here ({reason}); accepted: cpu, and "
            "cuda where there is a GPU"
        ) from error
    return device


def _loaded(
    identity: TrialIdentity,
    weights: Mapping[str, torch.Tensor],
    *,
    origin: str,
    made_by: str,
    device: torch.device,
) -> Predictor:
    learner = registry.learner_of(identity, device)
    load_weights(learner, weights, origin=origin)
    return Predictor(origin, made_by, learner, identity, device, targets=identity.default_targets)
