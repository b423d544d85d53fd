"""Parts that do not train: their weights and their batch-norm statistics alike, for some epochs or all."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from torch import nn

from xferlab.errors import UsageError
from xferlab.networks.translator import TRANSLATOR

_ENCODER = ("encoder1", "encoder2", "encoder3", "encoder4", "bottleneck")

LEVELS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {level: (level,) for level in _ENCODER}
    | {f"decoder{number}": (f"upconv{number}", f"decoder{number}") for number in (4, 3, 2, 1)}
    | {"head": ("conv",)}
)
"""The levels of a unet in the order of its forward pass, and the modules that make them up."""

PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType({"donor": tuple(LEVELS), "encoder": _ENCODER})
"""What can be frozen, and its levels."""


class Freezing(Protocol):
    """What is frozen, and until when; a task's configuration says it."""

    @property
    def part(self) -> str:
        """`donor` (everything but the translator) or `encoder` (its four levels and the bottleneck)."""
        ...

    def thaws_after(self, level: str) -> int | None:
        """Returns the number of epochs after which a level of the part trains; None for never."""
        ...


def frozen_levels(freeze: Freezing, epoch: int) -> set[str]:
    """Returns the names of the modules that are frozen in an epoch, counted from 1; translator excluded."""
    return {
        module for level in PARTS[freeze.part] if _frozen(freeze, level, epoch) for module in LEVELS[level]
    }


def _frozen(freeze: Freezing, level: str, epoch: int) -> bool:
    after = freeze.thaws_after(level)
    return after is None or epoch <= after


def check(model: nn.Module, freeze: Freezing) -> None:
    """Raises unless a network has what is to be frozen, and something that trains from the first epoch on.

    Raises:
        UsageError: Either is missing; says what there is and what would work.
    """
    children = dict(model.named_children())
    absent = sorted(frozen_levels(freeze, 0) - set(children))
    if absent:
        raise UsageError(
            f"freeze.part: {freeze.part} needs the parts {', '.join(absent)}, which this "
            f"{type(model).__name__} has not; it has {', '.join(children)}."
        )
    frozen = frozen_levels(freeze, 1)
    if not any(list(part.parameters()) for name, part in children.items() if name not in frozen):
        raise UsageError(
            f"freeze.part: {freeze.part} leaves nothing to train in the first epoch, as there is no "
            f"{TRANSLATOR}. Give the network one (`translator: {{depth: 2, width: 32}}`), freeze the encoder "
            "alone, or let a level train from the start (`unfreeze_after: {head: 0}`)."
        )


def apply(model: nn.Module, freeze: Freezing, *, epoch: int) -> None:
    """Freezes the parts whose turn it is in an epoch, and lets all others train; call it in each epoch.

    A frozen part gets no gradients, so that the backward pass ends before it, and uses its batch-norm
    statistics without changing them, as in evaluation.

    Args:
        model: Changed in place: `requires_grad` and the training mode of its parts.
        freeze: What to freeze.
        epoch: From 1.

    Raises:
        UsageError: See `check`.
    """
    check(model, freeze)
    frozen = frozen_levels(freeze, epoch)
    for name, part in model.named_children():
        part.requires_grad_(name not in frozen)
        part.train(name not in frozen)
