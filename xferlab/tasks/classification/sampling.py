"""Draws of training images, and weights of classes, so that each class counts as much as the others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from xferlab.training.batches import Rows
from xferlab.training.randomness import uniform


def balanced_rows(
    keys: npt.NDArray[np.uint64], labels: npt.NDArray[np.int64], *, seed: int, epoch: int
) -> Rows:
    """Returns as many draws as there are cases, (N,): an image of a class of n_c images weighs 1 / n_c.

    A case that is drawn for the (t + 1)-th time in the epoch is the number row + t N, so that its further
    draws can differ.

    Args:
        keys: 64 bits of each case, (N,): the draws do not depend on the order of the cases.
        labels: The class of each case, (N,).
        seed: Of the trial.
        epoch: From 1.
    """
    order = np.argsort(keys, kind="stable")
    until = np.cumsum((1.0 / np.maximum(np.bincount(labels), 1))[labels[order]])
    numbers = uniform(np.arange(len(keys), dtype=np.uint64), seed=seed, purpose="sample", epoch=epoch)
    drawn = order[np.minimum(np.searchsorted(until, numbers * until[-1], side="right"), len(keys) - 1)]
    return np.asarray(drawn + _times(drawn) * len(keys))


def _times(drawn: Rows) -> Rows:
    """How often each drawn case was drawn before."""
    order = np.argsort(drawn, kind="stable")
    ordered = drawn[order]
    first = np.searchsorted(ordered, ordered, side="left")
    times = np.empty_like(drawn)
    times[order] = np.arange(len(drawn)) - first
    return times


def balanced(truth: torch.Tensor, *, is_exclusive: bool) -> torch.Tensor:
    """Returns weights of classes, (K,), that make each count alike.

    Of exclusive classes n / (K n_c), so that all images together weigh n (arias-garzon2021, code). Of
    independent ones the number of images without it per image with it.

    Args:
        truth: (N, K), 1 for each class that an image is of.
        is_exclusive: Whether it is of one class.
    """
    counts = truth.sum(dim=0).clamp_min(1.0)
    return len(truth) / (truth.shape[1] * counts) if is_exclusive else (len(truth) - counts) / counts
