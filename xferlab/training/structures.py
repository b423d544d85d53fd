"""Segmented structures: where they are, and what is measured of each, and of two sides as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from xferlab.metrics.measuring import METRICS, THRESHOLD, added, measure, over_structures
from xferlab.metrics.overlap import Confusion, confusion_of
from xferlab.metrics.pairs import unions_of
from xferlab.metrics.temperature import Outcomes
from xferlab.training.examples import IGNORED, STRUCTURE, AnyExamples, Pixels

Probabilities = npt.NDArray[np.float32]
"""(S, H, W) in [0, 1]: of each structure, everywhere."""
Masks = npt.NDArray[np.bool_]
MAX_PIXELS = 2**14
"""Of a case to which a temperature is fitted: one number needs no more."""


def masks_of(prediction: Probabilities, threshold: float = THRESHOLD, *, is_exclusive: bool) -> Masks:
    """Returns where each structure is, (S, H, W): where its probability (S, H, W) is above the threshold.

    Several exclusive structures are where they are more probable than the background and each other; there
    the threshold has no say.
    """
    if not is_exclusive or len(prediction) == 1:
        return prediction > threshold
    chosen = with_background(prediction).argmax(axis=0)
    return np.stack([chosen == number for number in range(1, len(prediction) + 1)])


def with_background(prediction: Probabilities) -> Probabilities:
    """Returns exclusive probabilities (S, H, W) behind that of the background, (1 + S, H, W)."""
    return np.concatenate([1.0 - prediction.sum(axis=0, keepdims=True), prediction])


def at_size(prediction: Probabilities, *, width: int, height: int) -> Probabilities:
    """Returns probabilities stretched to (S, height, width), bilinear, antialiased where they shrink."""
    pictures = [Image.fromarray(np.ascontiguousarray(probability)) for probability in prediction]
    size, smooth = (width, height), Image.Resampling.BILINEAR
    return np.stack([np.asarray(picture.resize(size, smooth)) for picture in pictures])


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
    spacing, metrics = examples.spacing_mm[row], (*METRICS, *added(examples.metrics))
    known = None if np.isnan(spacing).any() else (float(spacing[0]), float(spacing[1]))
    learnt, targets = planes_of(examples, row)
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
            metrics=metrics,
        )

    return over_structures(
        {name: measured(name, target) for name, target in targets.items()},
        learnt=learnt,
        as_one={
            name: measured(name, _union([targets[side] for side in sides]))
            for name, sides in unions.items()
            if targets.keys() >= set(sides)
        },
        metrics=metrics,
    )


def planes_of(examples: AnyExamples, row: int) -> tuple[tuple[str, ...], Mapping[str, Pixels]]:
    """Returns what is learnt, in the order of the outputs, and the targets of a case by what they mark."""
    structures = examples.structures
    return examples.learnt or structures, dict(zip(structures, examples.case(row)[1], strict=True))


def outcomes_of(
    examples: AnyExamples, row: int, prediction: Probabilities, *, is_exclusive: bool
) -> Outcomes:
    """Returns the probabilities of a case's pixels, and what is true of them.

    Pixels that are ignored are left out: of exclusive structures, those that one of them ignores. Of more
    than `MAX_PIXELS`, as many are drawn, with a fixed seed. Structures that may overlap stand by themselves.

    Args:
        examples: The cases, which mark all that is learnt.
        row: Of the case.
        prediction: Probabilities of what is learnt, of the case's size.
        is_exclusive: Whether no two structures share a pixel; where masks do, the first one counts.
    """
    targets = examples.case(row)[1]
    if is_exclusive:
        kept = _drawn((targets != IGNORED).all(axis=0))
        marked = targets == STRUCTURE
        number = np.where(marked.any(axis=0), marked.argmax(axis=0) + 1, 0)
        truth = number.ravel()[kept] == np.arange(len(prediction) + 1)[:, None]
        return Outcomes(
            with_background(prediction).reshape(len(truth), -1)[:, kept], truth.astype(float), True
        )
    kept = _drawn(targets != IGNORED)
    truth = (targets == STRUCTURE).ravel()[kept]
    return Outcomes(prediction.reshape(1, -1)[:, kept], truth[None].astype(float), False)


def _drawn(counted: Masks) -> npt.NDArray[np.intp]:
    """The places of pixels that count, in their order."""
    places = np.flatnonzero(counted)
    if len(places) <= MAX_PIXELS:
        return places
    return np.sort(np.random.default_rng(0).choice(places, MAX_PIXELS, replace=False))


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


def confusions_of(examples: AnyExamples, row: int, masks: Masks) -> list[Confusion]:
    """Returns the counts of pixels of each structure that a case marks, but for those without a mask.

    Args:
        examples: The cases.
        row: Which.
        masks: (S, H, W), of the case's size: where each structure that is learnt is predicted.
    """
    learnt, targets = planes_of(examples, row)
    predicted, confusions = dict(zip(learnt, masks, strict=True)), []
    for name, target in targets.items():
        counted = target != IGNORED
        if name in predicted and counted.any():
            total = int(np.count_nonzero(counted))
            confusions.append(confusion_of(predicted[name] & counted, target == STRUCTURE, total=total))
    return confusions
