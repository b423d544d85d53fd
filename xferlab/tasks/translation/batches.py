"""Which images of two domains stand together in a batch, and what becomes of them on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from xferlab.training.batches import Rows
from xferlab.training.examples import IGNORED, STRUCTURE, AnyExamples, ImageExamples
from xferlab.training.randomness import permutation
from xferlab.training.sets import CaseSets

DOMAINS = ("a", "b")
SECOND = DOMAINS[1]
"""The domain of images of which nothing is said."""


@dataclass(frozen=True)
class Targets:
    """Where structures are, and which pixels count: float32 `(N, S, H, W)`, 0 or 1."""

    target: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Batch:
    """Images of each set in [-1, 1], float32 `(N, 1, H, W)`, and the targets of those that have masks."""

    images: Mapping[str, Tensor]
    targets: Mapping[str, Targets]

    @property
    def single(self) -> Tensor:
        """The images of a batch of one set."""
        (images,) = self.images.values()
        return images


def rows_of_epoch(examples: CaseSets, size: int, *, seed: int, epoch: int) -> list[Rows]:
    """Returns the rows of each batch of an epoch: `size` of each domain, until all of the larger were seen.

    A domain with fewer cases begins again, in another order. Of labelled cases of b there are `size` in a
    batch, or all if they are fewer.
    """
    number = max(1, *(-(-len(each) // size) for each in examples.sets.values()))
    counts = {name: size if name in DOMAINS else min(size, len(each)) for name, each in examples.sets.items()}
    taken = [
        examples.rows(name, _cycled(name, each, counts[name] * number, seed=seed, epoch=epoch))
        for name, each in examples.sets.items()
    ]
    return [np.concatenate(parts) for parts in zip(*(np.split(rows, number) for rows in taken), strict=True)]


def _cycled(name: str, examples: AnyExamples, count: int, *, seed: int, epoch: int) -> Rows:
    """So many rows of a set, in one order after the other."""
    rounds = -(-count // len(examples))
    orders = [
        permutation(examples.keys, seed=seed, epoch=epoch, purpose=f"order {name} {number}")
        for number in range(rounds)
    ]
    return np.concatenate(orders)[:count]


def batch_of(examples: CaseSets | AnyExamples, rows: Rows) -> Batch:
    """Returns the cases of some rows."""
    if isinstance(examples, CaseSets):
        divided = {name: own for name, own in examples.divided(rows).items() if len(own)}
        parts = {name: (examples.sets[name], own) for name, own in divided.items()}
    else:
        parts = {examples.set_name or SECOND: (examples, rows)}
    images, targets = dict[str, Tensor](), dict[str, Targets]()
    for name, (cases, own) in parts.items():
        assert isinstance(cases, ImageExamples), "translation takes images of one size"
        raw, labels = cases.take(own)
        images[name] = raw.float() / 127.5 - 1.0
        if labels.shape[1]:
            target = (labels == STRUCTURE).float()
            targets[name] = Targets(target, (labels != IGNORED).float())
    return Batch(images, targets)
