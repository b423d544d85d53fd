"""What is shown of a segmented image: what `predict` writes, and what trials store."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.ndimage import label

from xferlab.tasks.pictures import overlay, png
from xferlab.tasks.segmentation.config import files_of
from xferlab.training.examples import STRUCTURE, AnyExamples, Pixels
from xferlab.training.learner import Presented
from xferlab.training.structures import Masks, Probabilities, planes_of

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def present(image: npt.NDArray[np.uint8], masks: Mapping[str, npt.NDArray[np.bool_]]) -> Presented:
    """Returns what `predict` writes: masks and an overlay at the image's size, and figures about them.

    Pictures are pixels only, without metadata.

    Args:
        image: Grey, (H, W).
        masks: Where each structure is, by name, (H, W).
    """
    height, width = image.shape
    columns: dict[str, str | int | float] = {"width": width, "height": height}
    for name, mask in masks.items():
        num_pixels = int(mask.sum())
        columns[f"{name}_pixels"] = num_pixels
        columns[f"{name}_share"] = round(num_pixels / (width * height), 6)
        prefix = f"{name}_" if len(masks) > 1 else ""
        columns[f"{prefix}components"] = int(label(mask, structure=_EIGHT_NEIGHBOURS)[1])
    pictures = [*(mask * np.uint8(255) for mask in masks.values()), overlay(image, list(masks.values()))]
    files = zip(files_of(list(masks)), map(png, pictures), strict=True)
    return Presented(dict(files), columns, masks)


def outputs_of(examples: AnyExamples, row: int, prediction: Probabilities, masks: Masks) -> dict[str, Pixels]:
    """Returns what is stored of a case to look at, uint8 (H, W).

    They are the first channel and the target, and the probability (times 255) of one structure. Of several,
    each has a mask (255 where it is predicted), and what the targets mark a target, such as `target_heart`.
    """
    image, (learnt, targets) = examples.case(row)[0], planes_of(examples, row)
    if len(learnt) == 1:
        probability = np.rint(prediction[0] * 255.0).astype(np.uint8)
        return {"image": image[0], "target": targets[learnt[0]], "probability": probability}
    shown = {"image": image[0]}
    for name, mask in zip(learnt, masks, strict=True):
        shown |= {f"target_{name}": targets[name]} if name in targets else {}
        shown[f"mask_{name}"] = mask * np.uint8(STRUCTURE)
    return shown | {f"target_{name}": target for name, target in targets.items()}
