"""What is stored of a segmented case to look at."""

from __future__ import annotations

import numpy as np

from xferlab.training.examples import STRUCTURE, AnyExamples, Pixels
from xferlab.training.structures import Masks, Probabilities, planes_of


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
