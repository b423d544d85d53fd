"""What is measured and stored of a segmented case: of each structure, and of two sides as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xferlab.metrics.measuring import measure, over_structures
from xferlab.metrics.pairs import unions_of
from xferlab.tasks.segmentation.resized import Probabilities
from xferlab.training.examples import IGNORED, STRUCTURE, AnyExamples, Pixels

Masks = npt.NDArray[np.bool_]


class Predicted(NamedTuple):
    """Where a structure is predicted: float32 (H, W) in [0, 1], and bool (H, W)."""

    probability: npt.NDArray[np.float32]
    mask: Masks


def metrics_of(
    examples: AnyExamples, row: int, prediction: Probabilities, masks: Masks, *, is_exclusive: bool
) -> dict[str, float]:
    """Returns the metrics of a case whose prediction and masks (S, H, W) have its size.

    They are of the structures that the targets mark, and of two sides as one where the targets mark both, or
    the two as one.

    Args:
        examples: The cases.
        row: Of the case.
        prediction: Probabilities of what is learnt.
        masks: Where it is predicted.
        is_exclusive: Whether no two structures share a pixel: as one, two are as probable as their sum. Else
            they are as probable as the more probable of them.
    """
    spacing = examples.spacing_mm[row]
    known = None if np.isnan(spacing).any() else (float(spacing[0]), float(spacing[1]))
    learnt, targets = _planes(examples, row)
    predicted = {
        name: Predicted(probability, mask)
        for name, probability, mask in zip(learnt, prediction, masks, strict=True)
    }
    unions = unions_of(learnt)
    predicted |= {
        name: _joined([predicted[side] for side in sides], is_exclusive) for name, sides in unions.items()
    }

    def measured(name: str, target: Pixels) -> dict[str, float]:
        return measure(
            predicted[name].probability,
            target == STRUCTURE,
            ignore=target == IGNORED,
            predicted=predicted[name].mask,
            spacing_mm=known,
        )

    return over_structures(
        {name: measured(name, target) for name, target in targets.items()},
        learnt=learnt,
        as_one={
            name: measured(name, _union([targets[side] for side in sides]))
            for name, sides in unions.items()
            if targets.keys() >= set(sides)
        },
    )


def outputs_of(examples: AnyExamples, row: int, prediction: Probabilities, masks: Masks) -> dict[str, Pixels]:
    """Returns what is stored of a case to look at, uint8 (H, W).

    They are the first channel and the target, and the probability (times 255) of one structure. Of several,
    each has a mask (255 where it is predicted), and what the targets mark a target, such as `target_heart`.
    """
    image, (learnt, targets) = examples.case(row)[0], _planes(examples, row)
    if len(learnt) == 1:
        probability = np.rint(prediction[0] * 255.0).astype(np.uint8)
        return {"image": image[0], "target": targets[learnt[0]], "probability": probability}
    shown = {"image": image[0]}
    for name, mask in zip(learnt, masks, strict=True):
        shown |= {f"target_{name}": targets[name]} if name in targets else {}
        shown[f"mask_{name}"] = mask * np.uint8(STRUCTURE)
    return shown | {f"target_{name}": target for name, target in targets.items()}


def _planes(examples: AnyExamples, row: int) -> tuple[tuple[str, ...], Mapping[str, Pixels]]:
    """What is learnt, in the order of the outputs, and the targets of a case by what they mark."""
    structures = examples.structures
    return examples.learnt or structures, dict(zip(structures, examples.case(row)[1], strict=True))


def _joined(sides: Sequence[Predicted], is_exclusive: bool) -> Predicted:
    """Several structures as one; a sum may exceed 1 by its rounding."""
    probabilities, masks = zip(*sides, strict=True)
    probability = (
        np.minimum(sum(probabilities), np.float32(1)) if is_exclusive else np.maximum(*probabilities)
    )
    return Predicted(probability, np.logical_or.reduce(masks))


def _union(targets: Sequence[Pixels]) -> Pixels:
    """The target of several structures as one: ignored everywhere where one of them has no mask."""
    absent = any((target == IGNORED).all() for target in targets)
    joined: Pixels = np.maximum.reduce(targets)
    return np.full_like(joined, IGNORED) if absent else joined


def jaccards_of(examples: AnyExamples, row: int, masks: npt.NDArray[np.bool_]) -> list[float]:
    """Returns the Jaccard index of each structure of a case, but for those without a mask; both empty give 1.

    Args:
        examples: The cases.
        row: Which.
        masks: (S, H, W), of the case's size: where each structure is predicted.
    """
    values = []
    for mask, target in zip(masks, examples.case(row)[1], strict=True):
        if (counted := target != IGNORED).any():
            either = np.count_nonzero((mask | (target == STRUCTURE)) & counted)
            both = np.count_nonzero(mask & (target == STRUCTURE))
            values.append(both / either if either else 1.0)
    return values
