"""Parts that do not train: their weights and their batch-norm statistics alike, for some epochs or all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import nn

_ENCODER = ("encoder1", "encoder2", "encoder3", "encoder4", "encoder5", "bottleneck")

LEVELS: Mapping[str, tuple[str, ...]] = (
    {level: (level,) for level in _ENCODER}
    | {f"decoder{number}": (f"upconv{number}", f"decoder{number}") for number in (5, 4, 3, 2, 1)}
    | {"head": ("conv",)}
)
"""The levels of a network in the order of its forward pass, and the modules of each.

An FC-DenseNet has all of them, a U-Net neither `encoder5` nor `decoder5`, a SegNet no bottleneck, an FCN no
decoder.
"""

PARTS: Mapping[str, tuple[str, ...]] = {"donor": tuple(LEVELS), "encoder": _ENCODER}
"""What can be frozen, and its levels."""


class Freezing(Protocol):
    """What is frozen, and until when; a task's configuration says it."""

    @property
    def part(self) -> str:
        """`donor` (everything but the translator) or `encoder` (its levels and the bottleneck)."""

    def thaws_after(self, level: str) -> int | None:
        """Returns the number of epochs after which a level of the part trains; None for never."""


def frozen_modules(freezing: Freezing, epoch: int) -> set[str]:
    """Returns the names of the modules that are frozen in an epoch, counted from 1; translator excluded.

    They may include modules of levels that a network lacks.
    """
    frozen: set[str] = set()
    for level in PARTS[freezing.part]:
        after = freezing.thaws_after(level)
        if after is None or epoch <= after:
            frozen.update(LEVELS[level])
    return frozen


def freeze(model: nn.Module, freezing: Freezing, *, epoch: int) -> None:
    """Freezes the parts that rest in an epoch, and lets all others train; to be called in each epoch.

    A frozen part gets no gradients, so that the backward pass ends before it. It works as in evaluation: it
    uses its batch-norm statistics without changing them, and drops nothing out.

    Args:
        model: Changed in place: `requires_grad` and the training mode of its parts.
        freezing: What to freeze.
        epoch: From 1.
    """
    frozen = frozen_modules(freezing, epoch)
    for name, part in model.named_children():
        part.requires_grad_(name not in frozen)
        part.train(name not in frozen)
