"""What is measured, stored and written of a translated image, and of its segmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt
from PIL import Image

from xferlab.metrics.measuring import METRICS, added, over_structures, undefined
from xferlab.tasks.pictures import png
from xferlab.tasks.translation.segmenting import Segmenting
from xferlab.training.examples import STRUCTURE, AnyExamples, Pixels
from xferlab.training.learner import Array, Presented
from xferlab.training.structures import at_size, confusions_of, metrics_of

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
    image, structures, dice = examples.case(row)[0][0], _unmarked(examples, segmenter), math.nan
    if segmenter is not None and examples.structures:
        probability, is_exclusive = planes.probability, segmenter.section.is_exclusive
        masks = segmenter.masks(probability)
        structures = metrics_of(examples, row, probability, masks, is_exclusive=is_exclusive)
        others = confusions_of(examples, row, segmenter.masks(planes.other))
        dice = fmean(confusion.dice() for confusion in others) if others else math.nan
    is_of_a = examples.set_name == "a"
    return {
        **structures,
        "DICE_RECOVERED": dice if is_of_a else math.nan,
        "DICE_UNTRANSLATED": math.nan if is_of_a else dice,
        "CYCLE": float(np.abs(grey(planes.recovered) - image.astype(np.float32)).mean()) / 255.0,
    }


def _unmarked(examples: AnyExamples, segmenter: Segmenting | None) -> dict[str, float]:
    """The metrics of structures of which nothing is marked."""
    names, metrics = examples.learnt if segmenter else (), (*METRICS, *added(examples.metrics))
    nothing = undefined(metrics)
    return over_structures(dict.fromkeys(names, nothing), metrics=metrics) if len(names) > 1 else nothing


def grey(plane: Plane) -> Plane:
    """Returns grey levels 0 to 255 of an image in [-1, 1]."""
    levels: Plane = (plane + np.float32(1)) * np.float32(127.5)
    return levels


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
        for name, mask in zip(names, segmenter.masks(probability), strict=True):
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
    width = image.shape[1]
    columns: dict[str, str | int | float] = {"width": width, "height": image.shape[0]}
    translated = Image.fromarray(pixels(planes.translated)).resize((width, height), Image.Resampling.BILINEAR)
    files, masks = {"translated": png(np.asarray(translated))}, dict[str, npt.NDArray[np.bool_]]()
    if segmenter is not None:
        seen = segmenter.masks(at_size(planes.probability, width=width, height=height), threshold)
        for name, mask in zip(targets, seen, strict=True):
            masks[name] = np.zeros(image.shape, bool)
            masks[name][:height] = mask
            files["mask" if len(targets) == 1 else f"mask_{name}"] = png(masks[name] * np.uint8(STRUCTURE))
            columns[f"{name}_pixels"] = int(mask.sum())
    return Presented(files, columns, masks)
