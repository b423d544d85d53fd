"""Small learners without images, and how trainings are stored, resumed and compared."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from xferlab.metrics.score import Score
from xferlab.networks.build import initialise
from xferlab.networks.dropout import Dropout
from xferlab.tasks.config import Execution
from xferlab.training.batches import Rows
from xferlab.training.learner import AugmentationSeed, Learner, State
from xferlab.training.loop import Fitted, Schedule, Trainer, Weights
from xferlab.training.randomness import case_keys
from xferlab.training.step import Optimisation, Stepper
from xferlab.training.supervised import Forward, SupervisedLearner

CPU = torch.device("cpu")
LOSS = Score("loss", "lower")


class Cases:
    """Cases that are nothing but their keys and four numbers each."""

    def __init__(self, count: int):
        self.keys = case_keys([f"{number * 7919 % 997:016x}" for number in range(count)])
        self.values = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.keys)


class Small(SupervisedLearner[Cases, Any]):
    """Learns the sum of a case's numbers through a layer with dropout."""

    def __init__(self, *, seed: int = 1, p: float = 0.5, **options: Any):
        network = nn.Sequential(nn.Conv2d(4, 8, 1), Dropout(p), nn.ReLU(), Dropout(p), nn.Conv2d(8, 1, 1))
        initialise(network, seed)
        self._learn(network, **{"seed": seed, "batch_size": 4, "lr": 0.01, **options})

    def _learn(
        self,
        network: nn.Module,
        *,
        seed: int,
        batch_size: int,
        precision: Any = "float32",
        validation: Any = None,
        compiled: bool = False,
        **how: Any,
    ) -> None:
        execution = Execution(device="cpu", precision=precision, compile=compiled, validation=validation)
        SupervisedLearner.__init__(
            self, network, CPU, seed=seed, batch_size=batch_size, optimisation=Optimisation(**how),
            execution=execution,
        )  # fmt: skip

    def load(self, examples: Cases, rows: Rows, draw: AugmentationSeed | None) -> torch.Tensor:
        return examples.values[rows].reshape(-1, 4, 1, 1)

    def loss(self, forward: Forward, batch: torch.Tensor) -> torch.Tensor:
        return (forward(batch)[:, 0, 0, 0] - batch.sum(dim=(1, 2, 3))).square().mean()

    def predict(self, batch: torch.Tensor) -> Sequence[np.ndarray]:
        raise AssertionError

    def measure(self, examples: Cases, row: int, prediction: np.ndarray) -> Mapping[str, float]:
        raise AssertionError


class Script(Small):
    """A learner whose losses are written down; every step moves its one weight downhill."""

    def __init__(self, validation: Sequence[float], *, train: Sequence[float] = (), **options: Any):
        self._learn(nn.Linear(1, 1, bias=False), **{"seed": 1, "lr": 1e-3, "batch_size": 16, **options})
        self.validation, self.train = list(validation), list(train)
        self.batches_seen: list[tuple[list[int], AugmentationSeed | None]] = []
        self.prepared: list[int] = []

    @property
    def weight(self) -> float:
        return float(self.network.weight.detach())

    def prepare(self, train: Cases) -> None:
        self.prepared.append(len(train))

    def load(self, examples: Cases, rows: Rows, draw: AugmentationSeed | None) -> torch.Tensor:
        self.batches_seen.append((rows.tolist(), draw))
        return torch.ones(1, 1)

    def loss(self, forward: Forward, batch: torch.Tensor) -> torch.Tensor:
        losses = self.train if self.network.training else self.validation
        value = losses.pop(0) if losses else 0.5
        output = forward(batch).sum()
        return output - output.detach() + value

    def validate(self, examples: Cases) -> Mapping[str, float]:
        values = super().validate(examples)
        return {**values, "accuracy": values["loss"]}


class Pair:
    """A learner of two networks with an optimizer each: one copies what the other gives."""

    def __init__(self, seed: int):
        self.seed = seed
        self.networks = {"teacher": nn.Conv2d(4, 2, 1), "pupil": nn.Conv2d(4, 2, 1)}
        for number, network in enumerate(self.networks.values()):
            initialise(network, seed + number)
        how = Optimisation(lr=0.1, plateau=(0.5, 1), follows="training_loss")
        self._steppers = {name: Stepper(network, how) for name, network in self.networks.items()}

    def prepare(self, train: Cases) -> None:
        pass

    def begin_epoch(self, epoch: int, batch: int = 0) -> None:
        pass

    def batches(self, examples: Cases, epoch: int) -> Sequence[Rows]:
        return [np.arange(start, len(examples), 2) for start in (0, 1)]

    load = Small.load

    def train_step(self, batch: torch.Tensor) -> Mapping[str, torch.Tensor]:
        teacher, pupil = self.networks.values()
        losses = {"teacher": teacher(batch).square().mean()}
        losses["pupil"] = (pupil(batch) - teacher(batch).detach()).square().mean()
        return {name: self._steppers[name](loss) for name, loss in losses.items()}

    def check_steps(self, where: str) -> None:
        for stepper in self._steppers.values():
            stepper.check(where)

    def validate(self, examples: Cases) -> Mapping[str, float]:
        return {"likeness": -float(self.networks["pupil"].weight.detach().abs().sum())}

    def end_epoch(self, score: float | None, losses: Mapping[str, float]) -> Mapping[str, float]:
        return {
            f"{name}_lr": stepper.end_epoch(score, losses[name]) for name, stepper in self._steppers.items()
        }

    def state(self) -> State:
        return {name: stepper.state() for name, stepper in self._steppers.items()}

    def restore(self, state: State) -> None:
        for name, stepper in self._steppers.items():
            stepper.restore(state[name])


def trainer(
    learner: Learner[Any, Any], *, max_epochs: int = 9, patience: int = 99, score: Score | None = LOSS
) -> Trainer[Any, Any]:
    return Trainer(learner, Schedule(1, max_epochs, patience, score))


def saved(training: Trainer[Any, Any]) -> bytes:
    """What a checkpoint holds of a training."""
    buffer = io.BytesIO()
    torch.save(training.state(), buffer)
    return buffer.getvalue()


def loaded(state: bytes) -> dict[str, Any]:
    return torch.load(io.BytesIO(state), weights_only=True)


def copied(network: nn.Module) -> Weights:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one: Any, other: Any) -> bool:
    """Whether two nested values are equal, arrays bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(np.array_equal(one, other))


def outcome(training: Trainer[Any, Any], fitted: Fitted) -> dict[str, Any]:
    """All that a training leaves, but for its times."""
    state = loaded(saved(training))
    history = [result.outcome() for result in fitted.history]
    return {**vars(fitted), "history": history, "networks": state["networks"], "learner": state["learner"]}


def assert_resumes(make: Callable[[], Trainer[Any, Any]], train: Any, validation: Any) -> Fitted:
    """Every state that a training could have stored leads to the same end, bit for bit."""
    whole, states = make(), []
    fitted = whole.fit(train, validation, after_batch=lambda: states.append(saved(whole)))
    for state in states:
        torch.manual_seed(len(state))  # no generator's state matters
        again = make()
        again.restore(loaded(state))
        resumed = again.fit(train, validation)
        assert same(outcome(again, resumed), outcome(whole, fitted))
    num_batches = len(whole.learner.batches(train, 1))
    assert len(states) == num_batches * len(fitted.history)
    return fitted
