"""The step kit: steps of an optimizer that never wait for the device; none follows a non-finite loss.

The device remembers the first loss that was not finite. From then on no step changes a parameter, while the
running statistics of batch normalisation may have seen bad values. `check` reads the device and raises;
such a state is never stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from xferlab.errors import NonFiniteLossError


class LossGuard:
    """Remembers on the device the first loss that was not finite; all steppers of a learner share one."""

    def __init__(self) -> None:
        self._bad: torch.Tensor | None = None  # that loss, else 0

    def __call__(self, loss: torch.Tensor) -> torch.Tensor:
        """Looks at a loss; returns 1 on its device if it or an earlier one was not finite, else 0."""
        if self._bad is None:
            self._bad = torch.zeros_like(loss)
        # In place: a recorded step finds it there again.
        self._bad.copy_(torch.where((self._bad == 0) & ~torch.isfinite(loss), loss, self._bad))
        return (self._bad != 0).float()

    def value(self) -> float:
        """Returns that loss, or 0; waits for the device."""
        return 0.0 if self._bad is None else float(self._bad)


@dataclass(frozen=True)
class Optimisation:
    """How Adam steps, and how its learning rate falls.

    Attributes:
        lr: Initial learning rate.
        weight_decay: Times a parameter, it is added to the parameter's gradient (an L2 penalty).
        l1: Times the sign of a parameter, it is added to the parameter's gradient (an L1 penalty).
        plateau: (factor, patience) of the reduction where epochs stall, or None.
        follows: What stalls: the `score` of epochs, or their `training_loss`.
        better: Whether `lower` or `higher` scores are better.
        milestones: (epochs, factor): after each of these epochs the rate is multiplied; None for none.
        decay: (after, over): after so many epochs the rate falls linearly, over so many, to 0; None for none.
        betas: Adam's decay rates of the gradient's mean and of its square's.
    """

    lr: float
    weight_decay: float = 0.0
    l1: float = 0.0
    plateau: tuple[float, int] | None = None
    follows: Literal["score", "training_loss"] = "score"
    better: Literal["lower", "higher"] = "lower"
    milestones: tuple[Sequence[int], float] | None = None
    decay: tuple[int, int] | None = None
    betas: tuple[float, float] = (0.9, 0.999)

    @property
    def follows_epochs(self) -> bool:
        """Whether the learning rate follows from the number of the epoch."""
        return self.milestones is not None or self.decay is not None

    def lr_of(self, epoch: int) -> float:
        """Returns the learning rate of an epoch, from 1, that follows from its number alone."""
        epochs, factor = self.milestones or ((), 1.0)
        rate = self.lr * factor ** sum(milestone < epoch for milestone in epochs)
        after, over = self.decay or (epoch, 1)
        return rate * max(0.0, 1.0 - max(0, epoch - after) / (over + 1))


class Stepper:
    """Adam over a network's parameters, with an optional reduction of the learning rate."""

    def __init__(
        self, network: nn.Module, how: Optimisation, *, guard: LossGuard | None = None, rate: str = "lr"
    ):
        """Takes what is trained.

        Args:
            network: Its parameters are stepped.
            how: Learning rate, penalty and reduction.
            rate: The learning rate's name in a training.
            guard: That of the learner's other steppers: after a loss that is not finite none of them steps.
        """
        self._network, self._how, self.guard = network, how, guard or LossGuard()
        self._rate = rate
        parameters = list(network.parameters())
        self.optimizer = torch.optim.Adam(
            parameters,
            lr=how.lr,
            betas=how.betas,
            weight_decay=how.weight_decay,
            fused=True,
            capturable=parameters[0].device.type == "cuda",  # the same steps, and a graph may hold them
        )
        self.schedule = None
        if how.plateau is not None:
            factor, patience = how.plateau
            is_lower = how.follows == "training_loss" or how.better == "lower"
            self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
                self.optimizer,
                mode="min" if is_lower else "max",
                factor=factor,
                patience=patience,
                threshold=0.0,
            )

    @property
    def lr(self) -> float:
        """The learning rate."""
        return float(self.optimizer.param_groups[0]["lr"])

    def __call__(self, loss: torch.Tensor) -> torch.Tensor:
        """Takes a step down a scalar loss, unless it or an earlier one is not finite; returns it detached."""
        return step_together(loss, [self])

    def step(self, is_bad: torch.Tensor) -> None:
        """Takes a step by the gradients that are there, unless `is_bad` is 1."""
        if self._how.l1:
            self._penalise()
        # The fused step reads it on the device and leaves parameters as they are where it is 1.
        self.optimizer.found_inf = is_bad  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _penalise(self) -> None:
        """Adds the slope of the L1 penalty to all gradients."""
        for value in self._network.parameters():
            if value.grad is not None:
                value.grad.add_(value.sign(), alpha=self._how.l1)

    def check(self, where: str) -> None:
        """Raises if a loss was not finite; waits for the device.

        Raises:
            NonFiniteLossError: It was; says its value, where, and the likely reason.
        """
        check_together([self], where)

    @property
    def damaged(self) -> str:
        """Name of the first parameter that is not finite; empty for none."""
        parameters = self._network.named_parameters()
        return next((name for name, value in parameters if not torch.isfinite(value).all()), "")

    def suspicion(self) -> str:
        """Returns what is known of why a loss is not finite; stored images are 8 bit, so never the cause."""
        lr = f"training.{self._rate} (now {self.lr:g})"
        if not any(float(state["step"]) > 0 for state in self.optimizer.state.values()):
            return (
                "no step was taken yet, so the learning rate is not the cause. Look at the weights that the "
                "training starts from, and at extreme values of the training's options."
            )
        if self.damaged:
            return f"a step before it made {self.damaged!r} NaN or infinite. Most often {lr} is too high."
        return f"the weights are finite, and the network's output is not. Most often {lr} is too high."

    def begin_epoch(self, epoch: int) -> None:
        """Sets the learning rate of an epoch, from 1, where it follows from that."""
        if self._how.follows_epochs:
            for group in self.optimizer.param_groups:
                group["lr"] = self._how.lr_of(epoch)

    def end_epoch(self, score: float | None, loss: float) -> float:
        """Moves the reduction on by the epoch's score, or by its mean training loss.

        Returns:
            The learning rate that the epoch used.
        """
        lr, value = self.lr, loss if self._how.follows == "training_loss" else score
        if self.schedule is not None and value is not None:
            self.schedule.step(value)
        return lr

    def state(self) -> dict[str, Any]:
        """Returns what `restore` needs."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])


def step_together(loss: torch.Tensor, steppers: Sequence[Stepper]) -> torch.Tensor:
    """Takes a step of several networks down one scalar loss; returns it detached.

    None steps where it, or an earlier loss of their guard, which they share, is not finite.
    """
    value = loss.detach()
    is_bad = steppers[0].guard(value)
    loss.backward()  # type: ignore[no-untyped-call]
    for stepper in steppers:
        stepper.step(is_bad)
    return value


def check_together(steppers: Sequence[Stepper], where: str) -> None:
    """Raises if a loss of steppers that share a guard was not finite; waits for the device.

    Raises:
        NonFiniteLossError: It was; says its value, where, and the likely reason, of the first network that is
            damaged where one is.
    """
    if (value := steppers[0].guard.value()) != 0:
        suspect = next((stepper for stepper in steppers if stepper.damaged), steppers[0])
        raise NonFiniteLossError(f"the training loss became {value} {where}; {suspect.suspicion()}")
