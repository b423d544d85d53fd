"""The learner of classification: one network of whole images, or of what masks leave of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from xferlab.networks.saliency import grad_cam
from xferlab.tasks.classification.config import HEAT_INSIDE, TASK, Identity
from xferlab.tasks.classification.heat import share_inside
from xferlab.tasks.classification.measures import Measures, thresholds_of
from xferlab.tasks.classification.network import Classifier, take_over
from xferlab.tasks.classification.presentation import present
from xferlab.tasks.classification.regions import Region
from xferlab.training.batches import Rows, fixed
from xferlab.training.examples import ImageExamples, Pixels
from xferlab.training.learner import Array, AugmentationSeed, Layer, Learner, Presented
from xferlab.training.precision import float32
from xferlab.training.step import Optimisation
from xferlab.training.supervised import Forward, SupervisedLearner


class Batch(NamedTuple):
    """Network input (N, C, H, W), and truth (N, K), 1 for each class that an image is of, all float32."""

    inputs: torch.Tensor
    truth: torch.Tensor


class ClassificationLearner(SupervisedLearner[ImageExamples, Batch]):
    """Tells the classes of whole images.

    A prediction is one float32 vector: the probability of each of the K classes, then the map of where the
    network looks for the most probable one (Grad-CAM), a square of so many rows as its last features have.
    """

    network: Classifier

    def __init__(self, identity: Identity, device: torch.device, *, share: Learner[Any, Any] | None = None):
        """Builds the network of an identity, or shares another learner's."""
        training = identity.training
        network = Classifier.of(identity, device) if share is None else share.networks["network"]
        super().__init__(
            network,
            device,
            seed=identity.seed,
            batch_size=training.batch_size,
            optimisation=Optimisation(**training.optimisation, better=identity.score.better),
            execution=identity.execution,
        )
        self._identity, self._region = identity, Region.of(identity)
        self._num_classes = identity.num_classes or 1
        self._measures = Measures(identity.is_exclusive)
        self._class_weights = torch.ones(self._num_classes, device=device)

    def start_from(self, weights: Mapping[str, torch.Tensor], *, origin: str) -> None:
        """Takes over a parent's weights, or published ones, folded where the identity says so.

        Raises:
            DonorError: They do not fit the network.
        """
        take_over(self.network, weights, self._identity, origin=origin)

    def prepare(self, train: ImageExamples) -> None:
        """Takes mean and deviation of the training images, and the weights of the classes."""
        batches = fixed(len(train), self.batch_size)
        if self.network.standardise is not None:
            self.network.standardise.learn(self.load(train, rows, None).inputs for rows in batches)
        if self._identity.training.class_weights:
            truth = self._truth(train, np.arange(len(train)))
            self._class_weights = balanced(truth, is_exclusive=self._identity.is_exclusive).to(self.device)

    def begin_epoch(self, epoch: int, batch: int = 0) -> None:
        """Puts the network into training mode, with the trunk frozen where it rests in this epoch."""
        super().begin_epoch(epoch, batch)
        freeze = self._identity.adapt and self._identity.adapt.freeze
        if freeze:
            self.network.freeze_trunk(freeze.unfreeze_after is None or epoch <= freeze.unfreeze_after)

    def load(self, examples: ImageExamples, rows: Rows, draw: AugmentationSeed | None) -> Batch:
        """Returns what the network sees of images, augmented if there is something to draw from."""
        return Batch(self._region.inputs(examples, rows, draw), self._truth(examples, rows).to(self.device))

    def _truth(self, examples: ImageExamples, rows: Rows) -> torch.Tensor:
        if not len(examples.labels):  # new images
            return torch.zeros(len(rows), self._num_classes)
        return torch.from_numpy(self._measures.truth(examples.labels[rows], self._num_classes))

    def loss(self, forward: Forward, batch: Batch) -> torch.Tensor:
        """Returns the mean cross entropy of the images, each times the weight of its class."""
        return self._loss(forward(batch.inputs), batch.truth)

    def _loss(self, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        if self._identity.is_exclusive:
            entropy = F.cross_entropy(logits, truth, reduction="none")
            return (entropy * (truth @ self._class_weights)).mean()
        return F.binary_cross_entropy_with_logits(logits, truth, pos_weight=self._class_weights)

    def validate(self, examples: ImageExamples) -> Mapping[str, float]:
        """Returns loss, accuracy and mean F1 over the classes, in float32 over fixed batches in case order.

        Raises:
            NonFiniteLossError: The loss is NaN or infinite.
        """
        seen: list[torch.Tensor] = []

        def forward(images: torch.Tensor) -> torch.Tensor:
            seen.append(self.network(images))
            return seen[-1]

        loss = self.validation_loss(examples, forward)
        truth = self._truth(examples, np.arange(len(examples))).numpy()
        return {"loss": loss, **self._measures.of_all(self._probable(torch.cat(seen)), truth)}

    def finish(self, validation: ImageExamples) -> None:
        """Chooses the thresholds of each class on the validation cases; the network's buffers keep them."""
        truth = self._truth(validation, np.arange(len(validation))).numpy()
        chosen = thresholds_of(
            self._probabilities(validation), truth, sensitivity=self._identity.training.sensitivity
        )
        self.network.thresholds.copy_(torch.from_numpy(chosen))

    def _probabilities(self, examples: ImageExamples) -> npt.NDArray[np.float32]:
        """The probabilities of all cases, (N, K)."""
        self.network.eval()
        parts = [
            self._logits(self.load(examples, rows, None)) for rows in fixed(len(examples), self.batch_size)
        ]
        return self._probable(torch.cat(parts))

    def _logits(self, batch: Batch) -> torch.Tensor:
        with torch.inference_mode(), float32():
            logits: torch.Tensor = self.network(batch.inputs)
        return logits

    def _probable(self, logits: torch.Tensor) -> npt.NDArray[np.float32]:
        exclusive = self._identity.is_exclusive
        probability = torch.softmax(logits, dim=1) if exclusive else torch.sigmoid(logits)
        return np.asarray(probability.cpu().numpy(), np.float32)

    def predict(self, batch: Batch) -> Sequence[Array]:
        """Returns the prediction of each image."""
        self.network.eval()
        with float32():
            logits, maps = grad_cam(self.network, batch.inputs, self.network.last_features)
        heat = maps.flatten(start_dim=1).cpu().numpy()
        return list(np.concatenate([self._probable(logits), heat], axis=1))

    def _divided(self, prediction: Array) -> tuple[Array, Array]:
        """The probabilities (K,) and the heat (h, w) of a prediction."""
        heat = prediction[self._num_classes :]
        side = round(len(heat) ** 0.5)
        return prediction[: self._num_classes], heat.reshape(side, side)

    def measure(self, examples: ImageExamples, row: int, prediction: Array) -> Mapping[str, float]:
        """Returns what is measured of one image, and what metrics of sets are made of."""
        probability, heat = self._divided(prediction)
        (truth,) = self._measures.truth(examples.labels[row : row + 1], self._num_classes)
        thresholds = self.network.thresholds.cpu().numpy()
        values = {
            **self._measures.of_case(probability, truth, examples.classes, thresholds),
            HEAT_INSIDE: share_inside(heat, self._region.mask(examples, row)),
        }
        return {name: values[name] for name in _measured(examples.classes)}

    def outputs(self, examples: ImageExamples, row: int, prediction: Array) -> Mapping[str, Array]:
        """Returns `image`, what the network sees, uint8 (H, W), `heat`, float32 (h, w), and more.

        `probability`, float32 (K,), and where it takes masks, `mask`, uint8 (H, W).
        """
        probability, heat = self._divided(prediction)
        seen = self._region.seen(examples, row)
        shown: dict[str, Array] = {"image": seen, "heat": heat, "probability": probability}
        mask = self._region.mask(examples, row)
        return shown if mask is None else {**shown, "mask": mask.astype(np.uint8) * 255}

    def for_others(self, prediction: Array, threshold: float) -> Mapping[str, Array]:
        """Returns the probability of each class."""
        return {"probability": self._divided(prediction)[0]}

    def present(
        self, image: Pixels, prediction: Array, *, height: int, targets: Sequence[str], threshold: float
    ) -> Presented:
        """Returns the image with heat over it, the class, and the probability of each class."""
        probability, heat = self._divided(prediction)
        called = self._measures.called(probability, threshold)
        return present(image[:height], heat, dict(zip(targets, probability, strict=True)), called)

    def layers(self) -> Mapping[str, Layer]:
        """Returns the levels of the trunk, one for each resolution."""
        return dict(_layers(self.network))


@cache
def _measured(classes: tuple[str, ...]) -> tuple[str, ...]:
    return TASK.measured(classes)


def _layers(network: Classifier) -> Iterator[tuple[str, Layer]]:
    for name, (module, kernels) in network.levels().items():
        yield name, Layer(module, kernels)


def balanced(truth: torch.Tensor, *, is_exclusive: bool) -> torch.Tensor:
    """Returns weights of classes, (K,), that make each count alike.

    Of exclusive classes n / (K n_c), so that all images together weigh n (arias-garzon2021, code). Of
    independent ones the number of images without it per image with it.

    Args:
        truth: (N, K), 1 for each class that an image is of.
        is_exclusive: Whether it is of one class.
    """
    counts = truth.sum(dim=0).clamp_min(1.0)
    return len(truth) / (truth.shape[1] * counts) if is_exclusive else (len(truth) - counts) / counts
