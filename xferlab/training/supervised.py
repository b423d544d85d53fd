"""What tasks with one network and one loss share; a task adds how cases come in and outputs go out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property, partial
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from xferlab.errors import DonorError, NonFiniteLossError
from xferlab.networks.dropout import generators, reseed
from xferlab.training.batches import Rows, divide, fixed
from xferlab.training.learner import Array, B, E_contra, Layer, Learner, Presented, State
from xferlab.training.precision import float32
from xferlab.training.randomness import permutation
from xferlab.training.replay import CudaGraphs, Recordings
from xferlab.training.step import Optimisation, Stepper

Forward = Callable[[torch.Tensor], torch.Tensor]


class Execution(Protocol):
    """How exactly a training computes; the identity of a trial says it."""

    @property
    def precision(self) -> str:
        """Of training steps: `float32`, `tf32` (CUDA) or `bfloat16`. The loss is IEEE float32."""

    @property
    def validation(self) -> str | None:
        """Of `validate`, where that is not float32. All else is IEEE float32."""

    @property
    def compile(self) -> bool:
        """Whether steps run a compiled view of the network."""

    @property
    def cuda_graph(self) -> bool | None:
        """Whether steps are recorded and replayed (`training.replay`)."""


class SupervisedLearner(Learner[E_contra, B]):
    """A `Learner` of one network, trained by Adam on one loss, in float32 or under autocast.

    Attributes:
        network: What is trained, on its device.
        device: Where.
        seed: The trial's seed.
        batch_size: Images in a batch.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        *,
        seed: int,
        batch_size: int,
        optimisation: Optimisation,
        execution: Execution,
    ):
        """Takes a network on its device.

        Args:
            network: What is trained.
            device: Where.
            seed: The trial's seed.
            batch_size: Images in a batch.
            optimisation: Learning rate of Adam, and how it falls.
            execution: How exactly it computes.
        """
        self.network, self.device, self.seed, self.batch_size = network, device, seed, batch_size
        self._optimisation, self._execution = optimisation, execution
        self._epoch, self._batch = 1, 0
        self._host: Hashable = None

    # Made when it is first trained: prediction needs neither, and both are slow to import.
    @cached_property
    def _stepper(self) -> Stepper:
        return Stepper(self.network, self._optimisation)

    @cached_property
    def _forward(self) -> nn.Module:
        if not self._execution.compile:
            return self.network
        # Kernels for any shape differ from those for one, and which are made depends on the order of shapes.
        return cast("nn.Module", torch.compile(self.network, dynamic=False))

    @cached_property
    def _recordings(self) -> Recordings | None:
        return Recordings(CudaGraphs) if self._execution.cuda_graph else None

    @abstractmethod
    def loss(self, forward: Forward, batch: B) -> torch.Tensor:
        """Returns the scalar float32 loss of a batch, a mean over its images.

        On the host it reads nothing that changes between batches, and it waits for no device.

        Args:
            forward: The network; its output is float32.
            batch: From `load`.
        """

    def judged(self, examples: E_contra, rows: Rows) -> B:
        """Returns validation cases as a batch, on which `validate` measures the loss: what `load` gives."""
        return self.load(examples, rows, None)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The network, under the name `network`."""
        return {"network": self.network}

    def start_from(self, weights: Mapping[str, torch.Tensor], *, origin: str) -> None:
        """Takes over weights as they are.

        Raises:
            DonorError: A name or a shape differs.
        """
        try:
            self.network.load_state_dict(weights, strict=True)
        except RuntimeError as error:
            raise DonorError(f"{origin}: these weights do not fit the network. {error}") from error

    def prepare(self, train: E_contra) -> None:
        """Learns nothing from the training cases."""

    def batches(self, examples: E_contra, epoch: int) -> Sequence[Rows]:
        """Returns a permutation of all cases, cut into batches."""
        return divide(permutation(examples.keys, seed=self.seed, epoch=epoch), self.batch_size)

    def begin_epoch(self, epoch: int, batch: int = 0) -> None:
        """Puts the network into training mode; `batch` is the next one, counted from 0."""
        self._epoch, self._batch, self._host = epoch, batch, None
        self.network.train()
        self._stepper.begin_epoch(epoch)

    def train_step(self, batch: B) -> Mapping[str, torch.Tensor]:
        """Takes one step down the loss; returns it as `loss`."""
        reseed(self.network, seed=self.seed, epoch=self._epoch, batch=self._batch)
        self._batch += 1
        with float32(tf32=self._execution.precision == "tf32"):
            if self._recordings is None:
                return {"loss": self._step(batch)}
            host, drawn_from = self._read_by_steps(), partial(generators, self.network)
            return {"loss": self._recordings.take(self._step, batch, host=host, generators=drawn_from)}

    def _step(self, batch: B) -> torch.Tensor:
        return self._stepper(self.loss(self._cast, batch))

    def _read_by_steps(self) -> Hashable:
        """What steps of an epoch read on the host: the learning rate, and which parts rest."""
        if self._host is None:
            rests = tuple(value.requires_grad for value in self.network.parameters())
            modes = tuple(module.training for module in self.network.modules())
            self._host = self._stepper.lr, rests, modes
        return self._host

    def _cast(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._output(self._forward, inputs, precision=self._execution.precision)

    def _output(self, network: nn.Module, inputs: torch.Tensor, *, precision: str | None) -> torch.Tensor:
        """Returns the output of a network that computes in a precision, as float32."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            output: torch.Tensor = network(inputs)
        return output.float()

    def check_steps(self, where: str) -> None:
        """Raises NonFiniteLossError if a step met a loss that is not finite."""
        self._stepper.check(where)

    def validate(self, examples: E_contra) -> Mapping[str, float]:
        """Returns the loss over fixed batches in case order, weighted by images.

        Raises:
            NonFiniteLossError: It is NaN or infinite.
        """
        return {"loss": self.validation_loss(examples)}

    def validation_loss(self, examples: E_contra, see: Callable[[torch.Tensor], None] | None = None) -> float:
        """Returns the loss that `validate` gives; errors as there.

        Args:
            examples: The cases.
            see: Called with the network's output for each batch, float32.
        """
        self.network.eval()
        precision = self._execution.validation

        def forward(inputs: torch.Tensor) -> torch.Tensor:
            output = self._output(self.network, inputs, precision=precision)
            if see is not None:
                see(output)
            return output

        sums = torch.zeros((), dtype=torch.float64, device=self.device)
        with torch.inference_mode(), float32(tf32=precision == "tf32"):
            for rows in fixed(len(examples), self.batch_size):
                sums += self.loss(forward, self.judged(examples, rows)).double() * len(rows)
        total = float(sums)
        if not np.isfinite(total):
            where = f"in epoch {self._epoch}"
            raise NonFiniteLossError(
                f"the validation loss became {total} {where}; {self._stepper.suspicion()}"
            )
        return total / len(examples)

    def end_epoch(self, score: float | None, losses: Mapping[str, float]) -> Mapping[str, float]:
        """Moves the learning-rate schedule on; returns the rate that the epoch used as `lr`."""
        return {"lr": self._stepper.end_epoch(score, losses["loss"])}

    def outputs(self, examples: E_contra, row: int, prediction: Array) -> Mapping[str, Array]:
        """Stores nothing to look at."""
        return {}

    def for_others(self, prediction: Array, threshold: float) -> Mapping[str, Array]:
        """Gives nothing to other stages."""
        return {}

    def present(
        self,
        image: npt.NDArray[np.uint8],
        prediction: Array,
        *,
        height: int,
        targets: Sequence[str],
        threshold: float,
    ) -> Presented:
        """Writes no files."""
        return Presented({}, {})

    def layers(self) -> Mapping[str, Layer]:
        """Names no layers."""
        return {}

    def state(self) -> State:
        """Returns optimizer and schedule."""
        return self._stepper.state()

    def restore(self, state: State) -> None:
        """Continues where `state` was taken."""
        if self._recordings is not None:
            self._recordings.forget()
        self._stepper.restore(state)
