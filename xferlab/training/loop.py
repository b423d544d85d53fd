"""The training loop: epochs, validation, the best epoch, early stopping. It knows no task.

A checkpoint may be taken after any batch: draws have no state, so the cursor (epoch, batch) is all that a
resumed loop needs beside weights and the learner's own state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Generic

import torch

from xferlab.errors import NonFiniteLossError, check_names
from xferlab.metrics.score import Score
from xferlab.records.schema import EpochResult, ended_by
from xferlab.training.learner import AugmentationSeed, B, E_contra, Learner

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Schedule:
    """When a training ends.

    Attributes:
        seed: The trial's seed.
        max_epochs: Upper bound.
        patience: Stop at this many consecutive validations without improvement; without a score, never.
        score: What epochs are judged by; None keeps the last epoch.
    """

    seed: int
    max_epochs: int
    patience: int
    score: Score | None


@dataclass
class Cursor:
    """Where a training stands; all plain numbers.

    Attributes:
        epoch: The epoch in progress, from 1.
        next_batch: Its first batch that is not trained on yet.
        sums: Sums over the epoch's images so far of what steps returned, by name.
        num_images: Images of the epoch so far.
        train_s: Seconds of the epoch so far.
        history: Finished epochs.
        best_epoch: Epoch of the best score, 0 before the first.
        best_score: That score.
    """

    epoch: int = 1
    next_batch: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    num_images: int = 0
    train_s: float = 0.0
    history: list[EpochResult] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float | None = None


@dataclass(frozen=True)
class Fitted:
    """What a training gave.

    Attributes:
        weights: Of the best epoch, on the CPU; see `weights_of`.
        history: One result an epoch.
        best_epoch: That epoch.
        best_score: Its score; None without one.
        stopped_by: `patience` or `max_epochs`.
    """

    weights: Weights
    history: list[EpochResult]
    best_epoch: int
    best_score: float | None
    stopped_by: str


def weights_of(learner: Learner[Any, Any]) -> Weights:
    """Returns the weights of a learner's networks: of one its own names, of several `network.name`."""
    networks = learner.networks
    if len(networks) == 1:
        return dict(next(iter(networks.values())).state_dict())
    return {
        f"{name}.{key}": value
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }


def _number(value: float | None) -> float | None:
    """Returns a value as records hold it: NaN is None."""
    return None if value is None or math.isnan(value) else float(value)


class Trainer(Generic[E_contra, B]):
    """One training in progress; `state` and `restore` make it resumable after any batch."""

    def __init__(self, learner: Learner[E_contra, B], schedule: Schedule):
        """Takes what learns, and when it ends."""
        self.learner, self.schedule = learner, schedule
        self.cursor = Cursor()
        self.best: Weights = {}
        self._sums: dict[str, torch.Tensor] = {}
        self._is_prepared = False

    def fit(
        self,
        train: E_contra,
        validation: E_contra,
        *,
        after_batch: Callable[[], None] = lambda: None,
        after_epoch: Callable[[EpochResult], None] = lambda result: None,
    ) -> Fitted:
        """Trains until patience or `max_epochs` ends it.

        Args:
            train: Cases to train on.
            validation: Cases to stop and select on.
            after_batch: Called when the state is consistent; may store it, and may raise to end.
            after_epoch: Called with each finished epoch.

        Raises:
            NonFiniteLossError: A loss is NaN or infinite, and the parameters are still those before the step;
                or the score was NaN in every epoch.
        """
        while not (stopped_by := self.stopped_by()):
            after_epoch(self.epoch(train, validation, after_batch=after_batch))
            after_batch()
        cursor = self.cursor
        if not cursor.best_epoch:
            label = self.schedule.score.label if self.schedule.score else "score"
            raise NonFiniteLossError(
                f"the {label} was no number in any of {len(cursor.history)} epochs, so none is the best; "
                "judge epochs by another value, or validate on more cases"
            )
        weights = {name: value.cpu() for name, value in self.best.items()}
        return Fitted(weights, cursor.history, cursor.best_epoch, cursor.best_score, stopped_by)

    def epoch(
        self, train: E_contra, validation: E_contra, *, after_batch: Callable[[], None] = lambda: None
    ) -> EpochResult:
        """Trains one epoch, or what is left of it, and validates; arguments and errors as in `fit`."""
        if not self._is_prepared:
            self.learner.prepare(train)
            self._is_prepared = True
        self._train_epoch(train, after_batch)
        return self._finish_epoch(validation)

    def stopped_by(self) -> str:
        """Returns what ends the training now: `patience`, `max_epochs`, or an empty string."""
        return ended_by(
            len(self.cursor.history),
            self.cursor.best_epoch,
            max_epochs=self.schedule.max_epochs,
            patience=self.schedule.patience,
        )

    def _train_epoch(self, train: E_contra, after_batch: Callable[[], None]) -> None:
        cursor, learner = self.cursor, self.learner
        batches = learner.batches(train, cursor.epoch)
        draw = AugmentationSeed(self.schedule.seed, cursor.epoch)
        learner.begin_epoch(cursor.epoch, cursor.next_batch)
        for rows in batches[cursor.next_batch :]:
            started = time.perf_counter()
            losses = learner.train_step(learner.load(train, rows, draw))
            self._add(losses, len(rows))
            cursor.num_images += len(rows)
            cursor.next_batch += 1
            cursor.train_s += time.perf_counter() - started
            if cursor.next_batch < len(batches):
                after_batch()

    def _add(self, losses: Mapping[str, torch.Tensor], num_images: int) -> None:
        """Adds to the sums on the device, in float64, without waiting for it."""
        for name, value in losses.items():
            before = self._sums.get(name, self.cursor.sums.get(name, 0.0))
            self._sums[name] = before + value.double() * num_images
        if all(value.device.type == "cpu" for value in losses.values()):
            self._settle(f"batch {self.cursor.next_batch + 1}")

    def _settle(self, where: str = "") -> None:
        """Reads the device: raises if a step met a bad loss, and takes the sums into the cursor.

        Raises:
            NonFiniteLossError: See `fit`.
        """
        batch = where or f"by batch {self.cursor.next_batch}"
        self.learner.check_steps(f"in epoch {self.cursor.epoch}, {batch}")
        self.cursor.sums |= {name: float(value) for name, value in self._sums.items()}
        self._sums = {}

    def _finish_epoch(self, validation: E_contra) -> EpochResult:
        cursor, started = self.cursor, time.perf_counter()
        self._settle()
        validated = time.perf_counter()
        cursor.train_s += validated - started  # what the device still had to do
        measured = self.learner.validate(validation)
        judge = self.schedule.score
        if judge is not None:
            check_names("Learner.validate", measured, declared_in="Identity.score", required=[judge.name])
        value = None if judge is None else float(measured[judge.name])
        improved = judge is None or value is None or judge.improves(value, cursor.best_score)
        score = _number(value)
        losses = {name: total / cursor.num_images for name, total in cursor.sums.items()}
        if improved:
            cursor.best_score, cursor.best_epoch = score, cursor.epoch
            weights = weights_of(self.learner)
            self.best = {name: value.detach().clone() for name, value in weights.items()}
        result = EpochResult(
            epoch=cursor.epoch,
            values={
                **{f"train_{name}": loss for name, loss in losses.items()},
                **{f"validation_{name}": _number(measure) for name, measure in measured.items()},
                **self.learner.end_epoch(score, losses),
            },
            score=score,
            improved=improved,
            train_s=cursor.train_s,
            validation_s=time.perf_counter() - validated,
        )
        self.cursor = Cursor(
            epoch=cursor.epoch + 1,
            history=[*cursor.history, result],
            best_epoch=cursor.best_epoch,
            best_score=cursor.best_score,
        )
        return result

    def state(self) -> dict[str, Any]:
        """Returns all that `restore` needs: live tensors and plain numbers, to be stored at once.

        Raises:
            NonFiniteLossError: A step met a loss that is not finite: such a state is never stored.
        """
        self._settle()
        return {
            "cursor": asdict(self.cursor),
            "networks": {name: network.state_dict() for name, network in self.learner.networks.items()},
            "learner": self.learner.state(),
            "best": self.best,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken."""
        history = [EpochResult(**item) for item in state["cursor"]["history"]]
        self.cursor = Cursor(**{**state["cursor"], "history": history})
        for name, network in self.learner.networks.items():
            network.load_state_dict(state["networks"][name], strict=True)
        self.learner.restore(state["learner"])
        self.best = state["best"]
