"""What `predict` adds for several networks: maps of how uncertain they are, and figures of each structure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from xferlab.metrics.uncertainty import LARGEST_SD, Uncertainty, largest_entropy
from xferlab.tasks.pictures import map_png
from xferlab.training.learner import Presented
from xferlab.training.structures import Probabilities, at_size


def with_agreement(
    shown: Presented,
    masks: Mapping[str, npt.NDArray[np.bool_]],
    predictions: Probabilities,
    *,
    height: int,
    is_exclusive: bool,
) -> Presented:
    """Returns what is shown of the mean, with maps of entropy and disagreement, and the means of both.

    Args:
        shown: Of the mean probabilities.
        masks: Where each structure is, by name, (H, W).
        predictions: Of each network, (N, S, h, w).
        height: How many rows of the image, from the top, the networks saw; below, the maps are 0.
        is_exclusive: Whether a pixel belongs to one structure at most.
    """
    classes, is_exclusive = _classes(predictions, is_exclusive)
    uncertainty = Uncertainty.of(classes, is_exclusive=is_exclusive)
    maps = np.stack([*predictions.mean(axis=0), uncertainty.entropy, uncertainty.disagreement])
    (full_height, width) = next(iter(masks.values())).shape
    seen = np.zeros((len(maps), full_height, width), np.float32)
    seen[:, :height] = at_size(maps, width=width, height=height)
    *probabilities, entropy, disagreement = seen
    columns: dict[str, str | int | float] = {**shown.columns, **uncertainty.columns()}
    for (name, mask), probability in zip(masks.items(), probabilities, strict=True):
        columns[f"{name}_probability"] = _mean(probability, mask)
        columns[f"{name}_entropy"] = _mean(entropy, mask)
        columns[f"{name}_disagreement"] = _mean(disagreement, mask)
    largest = largest_entropy(classes.shape[1], is_exclusive=is_exclusive)
    files = {
        "entropy_map": map_png(entropy, largest=largest),
        "disagreement_map": map_png(disagreement, largest=LARGEST_SD),
    }
    return Presented({**shown.files, **files}, columns, masks)


def _classes(predictions: Probabilities, is_exclusive: bool) -> tuple[Probabilities, bool]:
    """The classes of a pixel, (N, K, h, w), and whether they exclude each other: the background is one then.

    A single structure needs no background: the two sum to one.
    """
    if not is_exclusive or predictions.shape[1] == 1:
        return predictions, False
    background = np.maximum(1 - predictions.sum(axis=1, keepdims=True), 0)
    return np.concatenate([background, predictions], axis=1), True


def _mean(values: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> float | str:
    """The mean within a mask; empty, as an empty cell of the table, without a pixel."""
    return round(float(values[mask].mean()), 6) if mask.any() else ""
