"""The training loop: epochs of Adam, validation, learning-rate reduction, early stopping.

A checkpoint may be taken after any batch: draws have no state, so the cursor (epoch, batch) is all that a
resumed loop needs beside weights and optimizer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic

import torch
from torch import nn

from xferlab.errors import NonFiniteLossError
from xferlab.records.schema import EpochResult
from xferlab.training.batches import divide, fixed
from xferlab.training.learner import AugmentationSeed, B, E_contra, Task
from xferlab.training.precision import float32
from xferlab.training.randomness import permutation

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        seed: The trial's seed.
        lr: Initial learning rate of Adam.
        batch_size: Images in a batch.
        max_epochs: Upper bound.
        patience: Stop at this many consecutive validations without improvement.
        plateau: (factor, patience) of the learning-rate reduction, or None.
        tf32: Whether steps on CUDA may round float32 products to TF32; validations never do.
    """

    seed: int
    lr: float
    batch_size: int
    max_epochs: int
    patience: int
    plateau: tuple[float, int] | None = None
    tf32: bool = False


@dataclass
class Cursor:
    """Where a training stands; all plain numbers.

    Attributes:
        epoch: The epoch in progress, from 1.
        next_batch: Its first batch that is not trained on yet.
        loss_sum: Sum over the epoch's images so far of their batch's loss.
        num_images: Images of the epoch so far.
        train_s: Seconds of the epoch so far.
        history: Finished epochs.
        best_epoch: Epoch with the lowest validation loss, 0 before the first.
        best_loss: That loss.
    """

    epoch: int = 1
    next_batch: int = 0
    loss_sum: float = 0.0
    num_images: int = 0
    train_s: float = 0.0
    history: list[EpochResult] = field(default_factory=list)
    best_epoch: int = 0
    best_loss: float = float("inf")


@dataclass(frozen=True)
class Fitted:
    """What a training gave.

    Attributes:
        weights: State dict of the epoch with the lowest validation loss, on the CPU.
        history: One result an epoch.
        best_epoch: That epoch.
        best_loss: Its validation loss.
        stopped_by: `patience` or `max_epochs`.
    """

    weights: Weights
    history: list[EpochResult]
    best_epoch: int
    best_loss: float
    stopped_by: str


class Trainer(Generic[E_contra, B]):
    """One training in progress; `state` and `restore` make it resumable after any batch."""

    def __init__(
        self,
        model: nn.Module,
        task: Task[E_contra, B],
        recipe: Recipe,
        *,
        forward: nn.Module | None = None,
        prepare: Callable[[nn.Module, int], None] | None = None,
    ):
        """Takes a model on its device.

        Args:
            model: What is trained.
            task: The learning problem.
            recipe: How to train.
            forward: A compiled view of the model, if there is one.
            prepare: Called with the model, in training mode, and the epoch, before the first batch of an
                epoch and again where one is resumed: it may freeze parts. The same epoch must give the same.
        """
        self.model, self.task, self.recipe = model, task, recipe
        # Views of `torch.compile` refuse to be asked for their truth.
        self.forward = model if forward is None else forward
        self.prepare = prepare
        self.optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, fused=True)
        self.scheduler = None
        if recipe.plateau is not None:
            factor, patience = recipe.plateau
            self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
                self.optimizer, factor=factor, patience=patience, threshold=0.0
            )
        self.cursor = Cursor()
        self.best: Weights = {}

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
            NonFiniteLossError: A loss is NaN or infinite; the weights are still those before the step.
        """
        while not (stopped_by := self.stopped_by()):
            after_epoch(self.epoch(train, validation, after_batch=after_batch))
            after_batch()
        cursor = self.cursor
        return Fitted(self.best, cursor.history, cursor.best_epoch, cursor.best_loss, stopped_by)

    def epoch(
        self, train: E_contra, validation: E_contra, *, after_batch: Callable[[], None] = lambda: None
    ) -> EpochResult:
        """Trains one epoch, or what is left of it, and validates; arguments and errors as in `fit`."""
        self._train_epoch(train, after_batch)
        return self._finish_epoch(validation)

    def stopped_by(self) -> str:
        """Returns what ends the training now: `patience`, `max_epochs`, or an empty string."""
        done = len(self.cursor.history)
        if done and done - self.cursor.best_epoch >= self.recipe.patience:
            return "patience"
        return "max_epochs" if done >= self.recipe.max_epochs else ""

    def _train_epoch(self, train: E_contra, after_batch: Callable[[], None]) -> None:
        cursor, recipe = self.cursor, self.recipe
        order = permutation(train.keys, seed=recipe.seed, epoch=cursor.epoch)
        batches = divide(order, recipe.batch_size)
        draw = AugmentationSeed(recipe.seed, cursor.epoch)
        self.model.train()
        if self.prepare is not None:
            self.prepare(self.model, cursor.epoch)
        for rows in batches[cursor.next_batch :]:
            started = time.perf_counter()
            batch = self.task.batch(train, rows, draw)
            cursor.loss_sum += self._step(batch) * len(rows)
            cursor.num_images += len(rows)
            cursor.next_batch += 1
            cursor.train_s += time.perf_counter() - started
            if cursor.next_batch < len(batches):
                after_batch()

    def _step(self, batch: B) -> float:
        with float32(tf32=self.recipe.tf32):
            return self._stepped(batch)

    def _suspicion(self) -> str:
        """Returns what is known of why a loss is not finite; stored images are 8 bit, so never the cause."""
        damaged = (key for key, value in self.model.named_parameters() if not torch.isfinite(value).all())
        tensor = next(damaged, None)
        lr = f"training.lr (now {self.optimizer.param_groups[0]['lr']:g})"
        if not self.optimizer.state:
            return (
                "no step was taken yet, so the learning rate is not the cause. Look at the weights that the "
                "training starts from, and at extreme values of training.smoothing and training.augmentation."
            )
        if tensor is not None:
            return f"a step before it made {tensor!r} NaN or infinite. Most often {lr} is too high."
        return f"the weights are finite, and the network's output is not. Most often {lr} is too high."

    def _stepped(self, batch: B) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.task.loss(self.forward, batch)
        value = float(loss.detach())
        if not abs(value) < float("inf"):
            where = f"in epoch {self.cursor.epoch}, batch {self.cursor.next_batch + 1}"
            raise NonFiniteLossError(f"the training loss became {value} {where}; {self._suspicion()}")
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return value

    def _finish_epoch(self, validation: E_contra) -> EpochResult:
        cursor = self.cursor
        lr = float(self.optimizer.param_groups[0]["lr"])
        started = time.perf_counter()
        loss = self.validation_loss(validation)
        improved = loss < cursor.best_loss
        if improved:
            cursor.best_loss, cursor.best_epoch = loss, cursor.epoch
            self.best = {
                name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()
            }
        if self.scheduler is not None:
            self.scheduler.step(loss)
        result = EpochResult(
            epoch=cursor.epoch,
            values={"train_loss": cursor.loss_sum / cursor.num_images, "validation_loss": loss, "lr": lr},
            score=loss,
            improved=improved,
            train_s=cursor.train_s,
            validation_s=time.perf_counter() - started,
        )
        cursor.history.append(result)
        cursor.epoch, cursor.next_batch = cursor.epoch + 1, 0
        cursor.loss_sum, cursor.num_images, cursor.train_s = 0.0, 0, 0.0
        return result

    def validation_loss(self, validation: E_contra) -> float:
        """Returns the training loss in float32 over fixed batches in case order, weighted by images.

        Raises:
            NonFiniteLossError: It is NaN or infinite.
        """
        self.model.eval()
        total = 0.0
        with torch.inference_mode(), float32():
            for rows in fixed(len(validation), self.recipe.batch_size):
                batch = self.task.batch(validation, rows, None)
                total += float(self.task.loss(self.model, batch)) * len(rows)
        if not abs(total) < float("inf"):
            where = f"in epoch {self.cursor.epoch}"
            raise NonFiniteLossError(f"the validation loss became {total} {where}; {self._suspicion()}")
        return total / len(validation)

    def state(self) -> dict[str, Any]:
        """Returns all that `restore` needs: live tensors and plain numbers, to be stored at once."""
        cursor = {**vars(self.cursor), "history": [result.to_json() for result in self.cursor.history]}
        return {
            "cursor": cursor,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "best": self.best,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken."""
        history = [EpochResult(**item) for item in state["cursor"]["history"]]
        self.cursor = Cursor(**{**state["cursor"], "history": history})
        self.model.load_state_dict(state["model"], strict=True)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.best = {name: value.cpu() for name, value in state["best"].items()}
