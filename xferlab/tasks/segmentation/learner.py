"""The learner of segmentation: a network on images of one size, at their own size, or by tiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import nn

from xferlab.metrics.temperature import Outcomes, scaled
from xferlab.networks.build import build, initialise
from xferlab.networks.freezing import LEVELS, freeze
from xferlab.networks.inherit import fold_channels, inherit, matched_control
from xferlab.networks.layout import layout
from xferlab.networks.translator import Translator
from xferlab.tasks.pictures import shrunk
from xferlab.tasks.segmentation.agreement import with_agreement
from xferlab.tasks.segmentation.config import Identity
from xferlab.tasks.segmentation.exported import exported
from xferlab.tasks.segmentation.native import NativeSegmentation
from xferlab.tasks.segmentation.presentation import outputs_of, present
from xferlab.tasks.segmentation.resized import ResizedSegmentation
from xferlab.tasks.segmentation.sections import (
    Adapt,
)
from xferlab.tasks.segmentation.tiled import TiledSegmentation
from xferlab.training.augment import Augmentation
from xferlab.training.batches import Rows, fixed
from xferlab.training.examples import STRUCTURE, AnyExamples, ImageExamples, NativeExamples, Pixels
from xferlab.training.exported import Exported
from xferlab.training.learner import Array, AugmentationSeed, Layer, Learner, Presented, predicted_rows
from xferlab.training.reference import (
    Reference,
    add_reference,
    is_reference,
    reference_for,
    reference_in,
)
from xferlab.training.step import Optimisation
from xferlab.training.structures import (
    Masks,
    at_size,
    confusions_of,
    metrics_of,
    outcomes_of,
    with_background,
)
from xferlab.training.supervised import Forward, SupervisedLearner


class SegmentationLearner(SupervisedLearner[Any, Any]):
    """Segments structures; what images become batches and how is its `view`."""

    def __init__(self, identity: Identity, device: torch.device, *, share: Learner[Any, Any] | None = None):
        """Builds the network of an identity, or shares another learner's."""
        training = identity.training
        network = network_of(identity, device) if share is None else next(iter(share.networks.values()))
        super().__init__(
            network,
            device,
            seed=identity.seed,
            batch_size=training.batch_size,
            optimisation=Optimisation(**training.optimisation, better=identity.score.better),
            execution=identity.execution,
        )
        self._side, self._structures = identity.image_size, identity.model.structures or 1
        self._adapt, self._has_jaccard = identity.adapt or Adapt(), training.score == "jaccard"
        self._reference = reference_in(network)
        self.view = view_of(identity, self._reference, memory_format=layout(network, device))
        self._base = self.view if isinstance(self.view, ResizedSegmentation) else self.view.base

    def start_from(self, weights: Mapping[str, torch.Tensor], *, origin: str) -> None:
        """Takes over weights, shuffled or folded where the identity says so.

        Raises:
            DonorError: They do not fit the network.
        """
        reference = reference_for(self.network, weights)
        if self._adapt.control is not None:
            weights = matched_control(weights, self.seed)
        if self._adapt.fold is not None:
            weights = fold_channels(weights, self._adapt.fold)
        weights = {key: value for key, value in weights.items() if not is_reference(key)} | reference
        inherit(self.network, weights, origin=origin, new_head=self._adapt.head == "new")

    def prepare(self, train: Any) -> None:
        """Learns the reference from the training images as they are, where the intensity has one."""
        if self._reference is not None:
            batches = fixed(len(train), self.batch_size)
            self._reference.learn(train.take(rows)[0] for rows in batches)

    def begin_epoch(self, epoch: int, batch: int = 0) -> None:
        """Puts the network into training mode, with the parts that rest in this epoch frozen."""
        super().begin_epoch(epoch, batch)
        if self._adapt.freeze is not None:
            freeze(self.network, self._adapt.freeze, epoch=epoch)

    def load(self, examples: Any, rows: Rows, draw: AugmentationSeed | None) -> Any:
        """Returns normalised images with their targets, augmented if there is something to draw from."""
        return self.view.batch(examples, rows, draw)

    def loss(self, forward: Forward, batch: Any) -> torch.Tensor:
        """Returns the loss of a batch."""
        return self.view.loss(forward, batch)

    def validate(self, examples: Any) -> Mapping[str, float]:
        """Returns the loss, and where epochs are judged by it, the mean `jaccard` of images and structures.

        Raises:
            NonFiniteLossError: The loss is NaN or infinite.
        """
        values = super().validate(examples)
        return {**values, "jaccard": self._jaccard(examples)} if self._has_jaccard else values

    def _jaccard(self, examples: Any) -> float:
        values = list[float]()
        for row, prediction in predicted_rows(self, examples, self.batch_size):
            confusions = confusions_of(examples, row, self._base.masks(prediction))
            values += [confusion.jaccard() for confusion in confusions]
        return fmean(values) if values else math.nan

    def predict(self, batch: Any) -> Sequence[Array]:
        """Returns the probabilities (S, H, W) of each case."""
        self.network.eval()
        return list(self.view.predict(self.network, batch))

    def measure(self, examples: AnyExamples, row: int, prediction: Array) -> Mapping[str, float]:
        """Returns the metrics of one image, at its original size where the examples have that."""
        cases, row, prediction = _at_original_size(examples, row, prediction)
        masks, is_exclusive = self._base.masks(prediction), self._base.is_exclusive
        return metrics_of(cases, row, prediction, masks, is_exclusive=is_exclusive)

    def measure_ensemble(
        self, examples: AnyExamples, row: int, predictions: Sequence[Array]
    ) -> Mapping[str, float]:
        """Returns the metrics of the mean probabilities."""
        return self.measure(examples, row, np.mean(predictions, axis=0))

    def outcomes(self, examples: AnyExamples, row: int, prediction: Array) -> Outcomes:
        """Returns pixels that are not ignored, a seeded draw where a case has many."""
        return outcomes_of(examples, row, prediction, is_exclusive=self._base.is_exclusive)

    def measure_at(
        self, examples: AnyExamples, row: int, prediction: Array, temperature: float
    ) -> Mapping[str, float]:
        """Returns the metrics of the probabilities at a temperature; masks stay as they are."""
        is_exclusive = self._base.is_exclusive
        every = with_background(prediction) if is_exclusive else prediction
        at = scaled(every, temperature, is_exclusive=is_exclusive)
        return self.measure(examples, row, at[1:] if is_exclusive else at)

    def outputs(self, examples: AnyExamples, row: int, prediction: Array) -> Mapping[str, Array]:
        """Returns `image`, `target` (0 background, 255 structure, 127 ignored) and `probability` (times 255).

        Of several structures, each has a `mask_heart`, and what is marked a `target_heart`. All are uint8
        arrays (H, W); those of images at their own size are shrunk to 512 px at most.
        """
        cases, row, prediction = _at_original_size(examples, row, prediction)
        outputs = outputs_of(cases, row, prediction, self._base.masks(prediction))
        if isinstance(cases, NativeExamples):
            return {
                name: shrunk(array, smooth=not name.startswith("target")) for name, array in outputs.items()
            }
        return outputs

    def for_others(self, prediction: Array, threshold: float) -> Mapping[str, Array]:
        """Returns `structures`: masks of all, as `outputs` of the network are exclusive or overlap."""
        masks = self._base.masks(prediction, threshold)
        return {"structures": np.where(masks, STRUCTURE, 0).astype(np.uint8)}

    def present(
        self, image: Pixels, prediction: Array, *, height: int, targets: Sequence[str], threshold: float
    ) -> Presented:
        """Returns masks and an overlay at the image's size, and figures about them."""
        return present(image, self._shown(image, prediction, height, targets, threshold))

    def present_ensemble(
        self,
        image: Pixels,
        predictions: Sequence[Array],
        *,
        height: int,
        targets: Sequence[str],
        threshold: float,
    ) -> Presented:
        """Returns the same of the mean probabilities, and maps and figures of how far they agree."""
        several = np.stack(predictions)
        masks = self._shown(image, several.mean(axis=0), height, targets, threshold)
        shown, is_exclusive = present(image, masks), self._base.is_exclusive
        return with_agreement(shown, masks, several, height=height, is_exclusive=is_exclusive)

    def _shown(
        self, image: Pixels, prediction: Array, height: int, targets: Sequence[str], threshold: float
    ) -> dict[str, Masks]:
        """Where each structure is, by name, at the image's size."""
        masks = np.zeros((len(targets), *image.shape), bool)
        shown = at_size(prediction, width=image.shape[1], height=height)
        masks[:, :height] = self._base.masks(shown, threshold)
        return dict(zip(targets, masks, strict=True))

    def exported(self) -> Exported:
        """Returns the graph from normalised images, or tiles of them, to probabilities."""
        return exported(self.network, self.view, side=self._side, structures=self._structures)

    def layers(self) -> Mapping[str, Layer]:
        """Returns the levels of the network; an upsampling belongs to the decoder level that it feeds."""
        parts = dict(self.network.named_children())
        return {
            level: Layer(parts[level], tuple(parts[name] for name in names if name in parts))
            for level, names in LEVELS.items()
            if level in parts
        }


def _at_original_size(examples: AnyExamples, row: int, prediction: Array) -> tuple[AnyExamples, int, Array]:
    """Returns the cases at their own size with a prediction stretched to it, where the examples have them."""
    if not isinstance(examples, ImageExamples) or examples.original is None:
        return examples, row, prediction
    height, width = examples.original.size(row)
    return examples.original, row, at_size(prediction, width=width, height=height)


def network_of(identity: Identity, device: torch.device) -> nn.Module:
    """Returns the network of an identity with the seed's random weights, on its device."""
    model = identity.model
    network = build(
        model.name,
        in_channels=model.in_channels,
        out_channels=model.out_channels,
        init_features=model.init_features,
        growth=model.growth,
        width=model.width,
        translator=Translator(**dict(model.translator)) if model.translator else None,
        package=model.package,
    )
    initialise(network, identity.seed)
    add_reference(network, identity.training.intensity, model.image_size)
    return network.to(device, memory_format=layout(network, device))  # type: ignore[call-overload,no-any-return]


def view_of(
    identity: Identity, reference: Reference | None, *, memory_format: torch.memory_format
) -> ResizedSegmentation | NativeSegmentation | TiledSegmentation:
    """Returns how cases become batches and are measured, for the size at which the network takes them.

    `memory_format` is how its images lie in memory.
    """
    training = identity.training
    base = ResizedSegmentation(
        in_channels=identity.model.in_channels,
        intensity=training.intensity,
        rotation=training.turns,
        loss_name=training.loss,
        smoothing=training.smoothing,
        augmentation=Augmentation(**dict(training.augmentation)) if training.augmentation else None,
        is_exclusive=identity.model.is_exclusive,
        first_counts=identity.model.outputs == "exclusive_first",
        class_weights=training.class_weights,
        size_multiple=identity.model.size_multiple,
        reference=reference,
        memory_format=memory_format,
    )
    if identity.model.tiles is not None:
        return TiledSegmentation(base, identity.model.tiles)
    return NativeSegmentation(base) if identity.image_size == "native" else base
