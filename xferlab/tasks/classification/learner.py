"""The learner of classification: one network of whole images, or of what masks leave of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from xferlab.metrics.temperature import Outcomes, scaled
from xferlab.metrics.uncertainty import Uncertainty
from xferlab.tasks.classification.config import Identity
from xferlab.tasks.classification.exported import exported, probabilities
from xferlab.tasks.classification.measures import NO_THRESHOLD, Measures, thresholds_of
from xferlab.tasks.classification.network import Classifier, take_over
from xferlab.tasks.classification.prediction import Prediction
from xferlab.tasks.classification.presentation import arrays, present
from xferlab.tasks.classification.sampling import balanced, balanced_rows
from xferlab.tasks.classification.values import values_of
from xferlab.tasks.classification.views import view_of
from xferlab.training.batches import Rows, divide, fixed
from xferlab.training.examples import ImageExamples, Pixels
from xferlab.training.exported import Exported
from xferlab.training.learner import Array, AugmentationSeed, Layer, Learner, Presented, State
from xferlab.training.step import Optimisation
from xferlab.training.supervised import Forward, SupervisedLearner
from xferlab.training.upload import uploaded

log = logging.getLogger("xferlab.tasks.classification")

SMALLEST_DIFFERENCE = 1e-6
"""Of a probability between two images: smaller ones are rounding."""


class Batch(NamedTuple):
    """What the network is given of cases, and their truth.

    Attributes:
        inputs: (N, C, H, W) float32; of cases to predict what the view gives.
        truth: (N, K) float32, 1 for each class that an image is of.
    """

    inputs: Any
    truth: torch.Tensor


class ClassificationLearner(SupervisedLearner[ImageExamples, Batch]):
    """Tells the classes of whole images, from all of them or from patches; a prediction is a `Prediction`."""

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
        self._identity, self._view = identity, view_of(identity)
        self._region = self._view.region
        self._num_classes = identity.num_classes or 1
        self._measures = Measures(identity.is_exclusive)
        self._class_weights = torch.ones(self._num_classes, device=device)
        self._counts, self._number = torch.zeros(3, self._num_classes, dtype=torch.int64, device=device), 0

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
            self.network.standardise.learn(self._view.judged(train, rows) for rows in batches)
        if self._identity.training.class_weights:
            truth = self._truth(train, np.arange(len(train)))
            self._class_weights = balanced(truth, is_exclusive=self._identity.is_exclusive).to(self.device)

    def batches(self, examples: ImageExamples, epoch: int) -> Sequence[Rows]:
        """Returns all cases once, or draws with replacement (`balanced_rows`), cut into batches."""
        if self._identity.training.sampling is None:
            return super().batches(examples, epoch)
        rows = balanced_rows(examples.keys, examples.labels, seed=self.seed, epoch=epoch)
        return divide(rows, self.batch_size)

    def begin_epoch(self, epoch: int, batch: int = 0) -> None:
        """Puts the network into training mode, with the trunk frozen where it rests in this epoch."""
        super().begin_epoch(epoch, batch)
        if batch == 0:
            self._counts.zero_()
            self._number = 0
        freeze = self._identity.adapt and self._identity.adapt.freeze
        if freeze:
            self.network.freeze_trunk(freeze.unfreeze_after is None or epoch <= freeze.unfreeze_after)

    def load(self, examples: ImageExamples, rows: Rows, draw: AugmentationSeed | None) -> Batch:
        """Returns cases to train on, augmented, if there is something to draw from; else cases to predict."""
        view, truth = self._view, uploaded(self._truth(examples, rows % len(examples)), self.device)
        inputs = view.cases(examples, rows) if draw is None else view.drawn(examples, rows, draw)
        return Batch(inputs, truth)

    def judged(self, examples: ImageExamples, rows: Rows) -> Batch:
        """Returns validation cases as a batch: of patches, the first few of each."""
        truth = self._truth(examples, rows).repeat_interleave(self._view.per_case, dim=0)
        return Batch(self._view.judged(examples, rows), uploaded(truth, self.device))

    def _truth(self, examples: ImageExamples, rows: Rows) -> torch.Tensor:
        if not len(examples.labels):  # new images
            return torch.zeros(len(rows), self._num_classes)
        return torch.from_numpy(self._measures.truth(examples.labels[rows], self._num_classes))

    def train_step(self, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Takes one step down the loss; returns it as `loss`."""
        self._number += len(batch.truth)
        return super().train_step(batch)

    def loss(self, forward: Forward, batch: Batch) -> torch.Tensor:
        """Returns the mean cross entropy of the inputs, each times the weight of its class."""
        logits = forward(batch.inputs)
        if self.network.training:
            self._count(logits.detach(), batch.truth == 1)
        return self._loss(logits, batch.truth)

    def _count(self, logits: torch.Tensor, is_true: torch.Tensor) -> None:
        """Adds to what `Measures.counts` counts, on the device."""
        likely = logits.argmax(dim=1, keepdim=True) == torch.arange(self._num_classes, device=logits.device)
        called = likely if self._identity.is_exclusive else logits > 0
        self._counts += torch.stack([(called & is_true).sum(dim=0), called.sum(dim=0), is_true.sum(dim=0)])

    def _loss(self, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        if self._identity.is_exclusive:
            entropy = F.cross_entropy(logits, truth, reduction="none")
            return (entropy * (truth @ self._class_weights)).mean()
        return F.binary_cross_entropy_with_logits(logits, truth, pos_weight=self._class_weights)

    def validate(self, examples: ImageExamples) -> Mapping[str, float]:
        """Returns loss, accuracy and mean F1 over the classes, over fixed batches in case order.

        They are of the inputs: of patches, each is told by itself.

        Raises:
            NonFiniteLossError: The loss is NaN or infinite.
        """
        seen: list[torch.Tensor] = []
        loss = self.validation_loss(examples, seen.append)
        truth = self._truth(examples, np.arange(len(examples))).numpy().repeat(self._view.per_case, axis=0)
        counts = self._measures.counts(self._probable(torch.cat(seen)), truth)
        return {"loss": loss, **self._measures.of_all(counts, len(truth))}

    def end_epoch(self, score: float | None, losses: Mapping[str, float]) -> Mapping[str, float]:
        """Moves the schedule on; returns the rate, and accuracy and mean F1 of what was trained on."""
        values = self._measures.of_all(self._counts.cpu().numpy(), self._number)
        trained = {f"train_{name}": value for name, value in values.items()}
        return {**super().end_epoch(score, losses), **trained}

    def finish(self, validation: ImageExamples) -> None:
        """Chooses the thresholds of each class on the validation cases; the network's buffers keep them.

        Says it where the network tells no two of them apart.
        """
        truth = self._truth(validation, np.arange(len(validation))).numpy()
        probability = self._probabilities(validation)
        if len(validation) > 1 and np.ptp(probability, axis=0).max() < SMALLEST_DIFFERENCE:
            log.warning(
                "the network of the best epoch gives all %d validation images the same probabilities: it has "
                "learnt nothing that tells them apart. Train longer (patience, max_epochs) or with another "
                "lr, or start from trained weights.",
                len(validation),
            )
        chosen = thresholds_of(probability, truth, sensitivity=self._identity.training.sensitivity)
        self.network.thresholds.copy_(torch.from_numpy(chosen))

    def _probabilities(self, examples: ImageExamples) -> npt.NDArray[np.float32]:
        """The probabilities of all cases, (N, K)."""
        self.network.eval()
        batches = (self._view.cases(examples, rows) for rows in fixed(len(examples), self.batch_size))
        return np.stack([case.probability for batch in batches for case in self._predicted(batch)])

    def _predicted(self, cases: object) -> Iterator[Prediction]:
        return self._view.predict(self.network, cases, self._probable)

    def _probable(self, logits: torch.Tensor) -> npt.NDArray[np.float32]:
        probability = probabilities(logits, is_exclusive=self._identity.is_exclusive)
        return np.asarray(probability.cpu().numpy(), np.float32)

    def predict(self, batch: Batch) -> Sequence[Array]:
        """Returns the prediction of each image."""
        self.network.eval()
        return [prediction.array() for prediction in self._predicted(batch.inputs)]

    def _read(self, prediction: Array) -> Prediction:
        patches = self._identity.model.patches
        number = patches.number if patches else 0
        return Prediction.of(prediction, num_classes=self._num_classes, num_patches=number)

    def measure(self, examples: ImageExamples, row: int, prediction: Array) -> Mapping[str, float]:
        """Returns what is measured of one image, and what metrics of sets are made of."""
        return self._of_case(examples, row, self._read(prediction), self.network.thresholds.cpu().numpy())

    def measure_ensemble(
        self, examples: ImageExamples, row: int, predictions: Sequence[Array]
    ) -> Mapping[str, float]:
        """Returns the same of the mean probabilities, or of the votes of all patches."""
        mean = Prediction.mean_of(list(map(self._read, predictions)))
        return self._of_case(examples, row, mean, self._no_thresholds)

    def outcomes(self, examples: ImageExamples, row: int, prediction: Array) -> Outcomes:
        """Returns the probability of each class of the image."""
        truth = self._measures.truth(examples.labels[row : row + 1], self._num_classes)
        probability = self._read(prediction).probability[None]
        if not self._identity.is_exclusive:
            return Outcomes(probability, truth, is_exclusive=False)
        return Outcomes(probability.T, truth.T, is_exclusive=True)

    def measure_at(
        self, examples: ImageExamples, row: int, prediction: Array, temperature: float
    ) -> Mapping[str, float]:
        """Returns the same of the image's probabilities at a temperature; patches vote as they do."""
        case = self._read(prediction)
        at = scaled(case.probability, temperature, is_exclusive=self._identity.is_exclusive)
        return self._of_case(examples, row, replace(case, probability=at), self._no_thresholds)

    @property
    def _no_thresholds(self) -> npt.NDArray[np.floating[Any]]:
        return np.full(self.network.thresholds.shape, NO_THRESHOLD)

    def _of_case(
        self, examples: ImageExamples, row: int, case: Prediction, thresholds: npt.NDArray[np.floating[Any]]
    ) -> Mapping[str, float]:
        return values_of(
            examples, row, case, measures=self._measures, thresholds=thresholds, region=self._region
        )

    def outputs(self, examples: ImageExamples, row: int, prediction: Array) -> Mapping[str, Array]:
        """Returns what is stored of a case to look at; see `shown.arrays`."""
        return arrays(self._region, examples, row, self._read(prediction))

    def for_others(self, prediction: Array, threshold: float) -> Mapping[str, Array]:
        """Returns the probability of each class, and of patches the class that they vote for."""
        case = self._read(prediction)
        if case.voted is None:
            return {"probability": case.probability}
        called = np.uint8(255) * (np.arange(self._num_classes) == case.voted)
        return {"probability": case.probability, "called": called}

    def present(
        self, image: Pixels, prediction: Array, *, height: int, targets: Sequence[str], threshold: float
    ) -> Presented:
        """Returns the image with heat over it, the class, and the probability of each class."""
        return self._presented(image[:height], self._read(prediction), targets, threshold)

    def present_ensemble(
        self,
        image: Pixels,
        predictions: Sequence[Array],
        *,
        height: int,
        targets: Sequence[str],
        threshold: float,
    ) -> Presented:
        """Returns the same of the mean probabilities and heat, and how far the networks agree, as columns."""
        cases = list(map(self._read, predictions))
        shown = self._presented(image[:height], Prediction.mean_of(cases), targets, threshold)
        probability = np.stack([case.probability for case in cases])
        agreement = Uncertainty.of(probability, is_exclusive=self._identity.is_exclusive)
        return Presented(shown.files, {**shown.columns, **agreement.columns()})

    def _presented(
        self, seen: Pixels, case: Prediction, targets: Sequence[str], threshold: float
    ) -> Presented:
        called = self._measures.called(case.probability, threshold)
        if case.voted is not None:
            called = np.arange(self._num_classes) == case.voted
        return present(seen, case.heat, dict(zip(targets, case.probability, strict=True)), called)

    def exported(self) -> Exported:
        """Returns the graph from normalised images, or patches of them, to probabilities."""
        return exported(self.network, self._identity, self._view)

    def state(self) -> State:
        """Returns optimizer, schedule, and the counts of the epoch so far."""
        return {**super().state(), "counts": self._counts, "number": self._number}

    def restore(self, state: State) -> None:
        """Continues where `state` was taken."""
        super().restore(state)
        self._counts, self._number = state["counts"].to(self.device), state["number"]

    def layers(self) -> Mapping[str, Layer]:
        """Returns the levels of the trunk, one for each resolution."""
        return {name: Layer(module, kernels) for name, (module, kernels) in self.network.levels().items()}
