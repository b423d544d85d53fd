"""The step kit: steps of an optimizer that never wait for the device; none follows a non-finite loss.

The device remembers the first loss that was not finite. From then on no step changes a parameter: the weights
stay those before that loss. `check` reads the device and raises.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from xferlab.errors import NonFiniteLossError


class Stepper:
    """Adam over a network's parameters, with an optional reduction of the learning rate on a plateau."""

    def __init__(self, network: nn.Module, *, lr: float, plateau: tuple[float, int] | None = None):
        """Takes what is trained, the initial learning rate, and (factor, patience) of its reduction."""
        self._network = network
        self.optimizer = torch.optim.Adam(network.parameters(), lr=lr, fused=True)
        self.schedule = None
        if plateau is not None:
            factor, patience = plateau
            self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
                self.optimizer, factor=factor, patience=patience, threshold=0.0
            )
        self._bad: torch.Tensor | None = None  # the first loss that was not finite, else 0

    @property
    def lr(self) -> float:
        """The learning rate."""
        return float(self.optimizer.param_groups[0]["lr"])

    def __call__(self, loss: torch.Tensor) -> torch.Tensor:
        """Takes a step down a scalar loss, unless it or an earlier one is not finite; returns it detached."""
        value = loss.detach()
        bad = torch.zeros_like(value) if self._bad is None else self._bad
        self._bad = torch.where((bad == 0) & ~torch.isfinite(value), value, bad)
        loss.backward()  # type: ignore[no-untyped-call]
        # The fused step reads it on the device and leaves parameters as they are where it is 1.
        self.optimizer.found_inf = (self._bad != 0).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return value

    def check(self, where: str) -> None:
        """Raises if a loss was not finite; waits for the device.

        Raises:
            NonFiniteLossError: It was; says its value, where, and the likely reason.
        """
        if self._bad is not None and (value := float(self._bad)) != 0:
            raise NonFiniteLossError(f"the training loss became {value} {where}; {self.suspicion()}")

    def suspicion(self) -> str:
        """Returns what is known of why a loss is not finite; stored images are 8 bit, so never the cause."""
        lr = f"training.lr (now {self.lr:g})"
        if not any(float(state["step"]) > 0 for state in self.optimizer.state.values()):
            return (
                "no step was taken yet, so the learning rate is not the cause. Look at the weights that the "
                "training starts from, and at extreme values of the training's options."
            )
        parameters = self._network.named_parameters()
        damaged = next((name for name, value in parameters if not torch.isfinite(value).all()), None)
        if damaged is not None:
            return f"a step before it made {damaged!r} NaN or infinite. Most often {lr} is too high."
        return f"the weights are finite, and the network's output is not. Most often {lr} is too high."

    def end_epoch(self, score: float | None) -> float:
        """Moves the schedule on by the epoch's score; returns the learning rate that the epoch used."""
        lr = self.lr
        if self.schedule is not None and score is not None:
            self.schedule.step(score)
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
