"""What is measured, stored and written of a translated image, and of its segmentation."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from xferlab.metrics.measuring import UNDEFINED, measure, over_structures
from xferlab.tasks.translation.segmenting import Masks, Segmenting
from xferlab.training.examples import IGNORED, STRUCTURE, AnyExamples, Pixels
from xferlab.training.learner import Array, Presented

Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Planes:
    """What is predicted of an image.

    Attributes:
        translated: As an image of the other domain, (H, W) in [-1, 1].
        recovered: That translated back, (H, W).
        probability: Of each structure, (S, H, W): of an image of a as it is, of one of b as an image of a.
        other: The same by the other way: of an image of a recovered, of one of b as it is.
    """

    translated: Plane
    recovered: Plane
    probability: Plane
    other: Plane

    @staticmethod
    def of(prediction: Array, structures: int) -> Planes:
        """Takes the array of a prediction, (2 + 2 S, H, W)."""
        translated, recovered, *_ = prediction
        return Planes(translated, recovered, prediction[2 : 2 + structures], prediction[2 + structures :])


def measured(
    examples: AnyExamples, row: int, planes: Planes, segmenter: Segmenting | None
) -> dict[str, float]:
    """Returns the metrics of a case; NaN for those of structures that it has no masks of."""
    image = examples.case(row)[0][0]
    dice = [_dice(examples, row, planes.other, segmenter), math.nan]
    recovered, untranslated = dice if examples.set_name == "a" else dice[::-1]
    return {
        **_of_structures(examples, row, planes.probability, segmenter),
        "DICE_RECOVERED": recovered,
        "DICE_UNTRANSLATED": untranslated,
        "CYCLE": float(np.abs(grey(planes.recovered) - image.astype(np.float32)).mean()) / 255.0,
    }


def grey(plane: Plane) -> Plane:
    """Returns grey levels 0 to 255 of an image in [-1, 1]."""
    levels: Plane = (plane + np.float32(1)) * np.float32(127.5)
    return levels


def _of_structures(
    examples: AnyExamples, row: int, probability: Plane, segmenter: Segmenting | None
) -> dict[str, float]:
    learnt = examples.learnt or examples.structures
    if segmenter is None or not examples.structures:
        names = examples.learnt if segmenter else ()
        return over_structures(dict.fromkeys(names, UNDEFINED)) if len(names) > 1 else dict(UNDEFINED)
    spacing = examples.spacing_mm[row]
    known = None if np.isnan(spacing).any() else (float(spacing[0]), float(spacing[1]))
    masks = segmenter.masks(probability[None])[0]
    targets = dict(zip(examples.structures, examples.case(row)[1], strict=True))
    each = {
        name: measure(
            probability[place],
            targets[name] == STRUCTURE,
            ignore=targets[name] == IGNORED,
            predicted=masks[place],
            spacing_mm=known,
        )
        for place, name in enumerate(learnt)
        if name in targets
    }
    return over_structures(each, learnt=learnt)


def _dice(examples: AnyExamples, row: int, probability: Plane, segmenter: Segmenting | None) -> float:
    return _of_structures(examples, row, probability, segmenter)["DICE"]


def jaccards_of(examples: AnyExamples, row: int, masks: Masks) -> list[float]:
    """Returns the Jaccard index of each structure (S, H, W) with a mask; both empty give 1."""
    values = []
    for mask, target in zip(masks, examples.case(row)[1], strict=True):
        if (counted := target != IGNORED).any():
            either = np.count_nonzero((mask | (target == STRUCTURE)) & counted)
            both = np.count_nonzero(mask & (target == STRUCTURE))
            values.append(both / either if either else 1.0)
    return values


def outputs_of(
    examples: AnyExamples, row: int, planes: Planes, segmenter: Segmenting | None
) -> dict[str, Pixels]:
    """Returns what is stored of a case to look at, uint8 (H, W)."""
    image, targets = examples.case(row)
    shown = {
        "image": image[0],
        "translated": pixels(planes.translated),
        "recovered": pixels(planes.recovered),
    }
    if segmenter is None:
        return shown
    named = dict(zip(examples.structures, targets, strict=True))
    names = examples.learnt or examples.structures or ("structure",)
    several = len(names) > 1
    for label, probability in (("mask", planes.probability), ("other", planes.other)):
        for name, mask in zip(names, segmenter.masks(probability[None])[0], strict=True):
            shown[f"{label}_{name}" if several else label] = mask * np.uint8(STRUCTURE)
    return shown | {f"target_{name}" if several else "target": target for name, target in named.items()}


def pixels(plane: Plane) -> Pixels:
    """Returns an image in [-1, 1] as grey levels, uint8."""
    rounded: Pixels = np.rint(grey(plane)).clip(0, 255).astype(np.uint8)
    return rounded


def presented(
    image: Pixels,
    planes: Planes,
    segmenter: Segmenting | None,
    *,
    height: int,
    targets: Sequence[str],
    threshold: float,
) -> Presented:
    """Returns what `predict` writes; arguments as of `Learner.present`."""
    size = (image.shape[1], height)
    columns: dict[str, str | int | float] = {"width": image.shape[1], "height": image.shape[0]}
    files = {"translated": _png(_stretched(pixels(planes.translated), size))}
    if segmenter is not None:
        probability = np.stack([_stretched(plane, size) for plane in planes.probability])
        masks = segmenter.masks(probability[None], threshold)[0]
        for name, mask in zip(targets, masks, strict=True):
            whole = np.zeros(image.shape, np.uint8)
            whole[:height] = mask * np.uint8(STRUCTURE)
            files["mask" if len(targets) == 1 else f"mask_{name}"] = _png(whole)
            columns[f"{name}_pixels"] = int(mask.sum())
    return Presented(files, columns)


def _stretched(plane: npt.NDArray[np.generic], size: tuple[int, int]) -> npt.NDArray[np.generic]:
    resized = Image.fromarray(np.ascontiguousarray(plane)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _png(array: npt.NDArray[np.generic]) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(array).save(sink, format="PNG", compress_level=3)
    return sink.getvalue()
