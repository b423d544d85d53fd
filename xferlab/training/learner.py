"""The contract of a task: what the training loop, evaluation and prediction know of a learning problem."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from xferlab.metrics.temperature import Outcomes
from xferlab.training.batches import Rows, fixed
from xferlab.training.exported import Exported

Array = npt.NDArray[Any]
State = dict[str, Any]


@dataclass(frozen=True)
class AugmentationSeed:
    """What augmentation is drawn from.

    Attributes:
        seed: The trial's seed.
        epoch: From 1.
    """

    seed: int
    epoch: int


class Examples(Protocol):
    """The cases of one part or evaluation, in digest order, on their way to the device."""

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        """64 bits of each case's digest, shape (N,): what draws depend on."""

    def __len__(self) -> int:
        """Number of cases."""


@dataclass(frozen=True)
class Layer:
    """A layer that deep features compare.

    Attributes:
        module: Its output, (N, C, H, W), is averaged over the image.
        kernels: The modules whose convolutions make it up.
    """

    module: nn.Module
    kernels: tuple[nn.Module, ...]


@dataclass(frozen=True)
class Presented:
    """What is written of a prediction for people.

    Attributes:
        files: Bytes of each file, by the name of its column in `predictions.csv`, one of `Task.files`.
        columns: Figures, by the names of their columns.
        masks: Where each structure is, by name, (H, W), of the image's size; of a task that marks structures.
    """

    files: Mapping[str, bytes]
    columns: Mapping[str, str | int | float]
    masks: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)


E = TypeVar("E", bound=Examples)
E_contra = TypeVar("E_contra", bound=Examples, contravariant=True)
B = TypeVar("B")


class Learner(Protocol[E_contra, B]):
    """One trial's networks with all that is needed to train, measure and use them.

    A task makes it from an identity (`tasks.registry.learner_of`). The loop calls, in every epoch:
    `begin_epoch`, then `load` and `train_step` for each batch, then `validate`, then `end_epoch`.
    `training.supervised.SupervisedLearner` implements all but a few lines of it for one network.
    """

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """What checkpoints hold, by name."""

    def start_from(self, weights: Mapping[str, torch.Tensor], *, origin: str) -> None:
        """Takes over a parent's or donor's weights as the identity says; called before `prepare`.

        Raises:
            DonorError: They do not fit; the message names `origin`.
        """

    def start_network_from(self, name: str, weights: Mapping[str, torch.Tensor], *, origin: str) -> None:
        """Takes over weights for one of its networks, by a name of `Task.networks`; for tasks that have any.

        Raises:
            DonorError: They do not fit; the message names `origin`.
        """

    def prepare(self, train: E_contra) -> None:
        """Learns what is taken from the training cases, such as class weights: a pure function of them.

        Called after `start_from`, whose buffers it may overwrite, and before the first epoch that a process
        trains, also where a training is resumed. Evaluation and prediction do not call it: what they need is
        kept in buffers of the networks, which weights hold.
        """

    def batches(self, examples: E_contra, epoch: int) -> Sequence[Rows]:
        """Returns the rows of each training batch of an epoch, a pure function of seed and epoch.

        Where draws are with replacement, row + t * N stands for a case that comes for the (t + 1)-th time, of
        N cases: `load` may then draw anew.
        """

    @abstractmethod
    def load(self, examples: E_contra, rows: Rows, draw: AugmentationSeed | None) -> B:
        """Returns the cases of `rows` on the device, augmented if there is something to draw from."""

    def begin_epoch(self, epoch: int, batch: int = 0) -> None:
        """Puts the networks into training mode and freezes what rests, before the batch of this number.

        Called again where an epoch is resumed. The same epoch and batch give the same.
        """

    def train_step(self, batch: B) -> Mapping[str, torch.Tensor]:
        """Takes one step of every optimizer; returns losses by name, scalars on the device.

        A loss that is not finite takes no step, and no step is taken after it (see `training.step`).
        """

    def check_steps(self, where: str) -> None:
        """Raises if a step met a loss that is not finite; waits for the device.

        Raises:
            NonFiniteLossError: Says where, and what the reason may be.
        """

    def validate(self, examples: E_contra) -> Mapping[str, float]:
        """Returns float32 values by name, with that of `Identity.score`, over fixed batches in case order."""

    def end_epoch(self, score: float | None, losses: Mapping[str, float]) -> Mapping[str, float]:
        """Moves schedules on; returns what else is to be noted of the epoch, such as `lr`.

        Args:
            score: Of the epoch; None where it has none, or where it is no number.
            losses: What `train_step` returned, by name: means over the images of the epoch.
        """

    def finish(self, validation: E_contra) -> None:
        """Learns what the best weights tell of the validation cases, such as thresholds.

        Called once, with the best weights loaded, before they are stored: what evaluation and prediction need
        of it is kept in buffers of the networks. By default there is nothing to learn.
        """

    @abstractmethod
    def predict(self, batch: B) -> Sequence[Array]:
        """Returns the float32 output of every case of a batch."""

    @abstractmethod
    def measure(self, examples: E_contra, row: int, prediction: Array) -> Mapping[str, float]:
        """Returns the values of one case that `Task.metrics` need, by name; NaN where undefined.

        Called from several threads at once, as `outputs` is, while `predict` goes on: it changes nothing.
        """

    def measure_ensemble(
        self, examples: E_contra, row: int, predictions: Sequence[Array]
    ) -> Mapping[str, float]:
        """Returns what `measure` does of the mean of several networks, from a prediction of each.

        For tasks with `Task.ensemble_files`. What each network chose on its own validation cases, such as
        thresholds, the mean does not have: what needs it is NaN.
        """
        raise NotImplementedError

    def outcomes(self, examples: E_contra, row: int, prediction: Array) -> Outcomes:
        """Returns the probabilities of a case that a temperature is fitted to, and what is true of it.

        For tasks with `Task.ensemble_files`.
        """
        raise NotImplementedError

    def measure_at(
        self, examples: E_contra, row: int, prediction: Array, temperature: float
    ) -> Mapping[str, float]:
        """Returns what `measure` does of the probabilities at a temperature; see `measure_ensemble`."""
        raise NotImplementedError

    def outputs(self, examples: E_contra, row: int, prediction: Array) -> Mapping[str, Array]:
        """Returns the arrays that are stored of one case to look at, of any shape, by name.

        The mirror shows `image`, uint8 (H, W), and lays the other uint8 arrays of its shape over it as masks
        of what is at least 128. The rest of a name after `_` is what it marks: `heart` of `target_heart`. In
        a report, only the task's own figures show any (`Task.report`).
        """

    def for_others(self, prediction: Array, threshold: float) -> Mapping[str, Array]:
        """Returns what other stages may take of a prediction, in the order of the targets (`Task.targets`).

        For `structures`: an array `structures` of masks, uint8 (S, H, W), 0 and 255, of any size, since who
        takes them stretches them to its own. For `classes`: `probability` of each class, float32 (K,). Where
        a case may be called another class than the most probable one, also `called`, uint8 (K,), 255 for its
        class and 0; `TrialIdentity.calls_by` then says by what.

        Args:
            prediction: Of `predict`.
            threshold: From which probability on a structure is there.
        """

    def present(
        self,
        image: npt.NDArray[np.uint8],
        prediction: Array,
        *,
        height: int,
        targets: Sequence[str],
        threshold: float,
    ) -> Presented:
        """Returns what `predict` writes for a grey image (H, W).

        Args:
            image: The file's pixels.
            height: How many rows of it, from the top, the network saw: fewer than H where the training cut
                black bands off.
            prediction: Of `predict`.
            targets: Names of what the trial learnt: `TrialSpec.targets`, else `Identity.default_targets`.
            threshold: From which probability on something is there, for tasks that predict any.
        """

    def exported(self) -> Exported | None:
        """Returns the part of a prediction that one graph holds; None where the task has none."""
        return None

    def present_ensemble(
        self,
        image: npt.NDArray[np.uint8],
        predictions: Sequence[Array],
        *,
        height: int,
        targets: Sequence[str],
        threshold: float,
    ) -> Presented:
        """Returns what `predict` writes of the mean of several networks, and how far they agree.

        For tasks with `Task.ensemble_files`; arguments as of `present`, with a prediction of each network.
        """
        raise NotImplementedError

    def layers(self) -> Mapping[str, Layer]:
        """Returns the layers that deep features compare, by the names that the identity lists."""

    def state(self) -> State:
        """Returns optimizers and schedules: live tensors and plain numbers, to be stored at once."""

    def restore(self, state: State) -> None:
        """Continues where `state` was taken."""


def predicted_rows(learner: Learner[E, Any], examples: E, batch_size: int) -> Iterator[tuple[int, Array]]:
    """Yields the row of every case and what is predicted of it, in order."""
    for rows in fixed(len(examples), batch_size):
        yield from zip(rows.tolist(), learner.predict(learner.load(examples, rows, None)), strict=True)
