"""What is shown of a classified image: what `predict` writes, and what trials store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from xferlab.tasks.classification.heat import Heat, over
from xferlab.tasks.classification.prediction import Prediction
from xferlab.tasks.classification.regions import Region
from xferlab.tasks.pictures import png, shrunk
from xferlab.training.examples import ImageExamples, Pixels
from xferlab.training.learner import Presented


def present(
    image: npt.NDArray[np.uint8],
    heat: Heat,
    probability: Mapping[str, float],
    called: npt.NDArray[np.bool_],
) -> Presented:
    """Returns what `predict` writes: heat over the image, its classes, and the probability of each.

    Pictures are pixels only, without metadata.

    Args:
        image: Grey, (H, W): what of the file the network saw.
        heat: Where it looks.
        probability: Of each class by name.
        called: (K,), the classes that the image is called.
    """
    height, width = image.shape
    names = [name for name, is_called in zip(probability, called, strict=True) if is_called]
    shown = {f"P_{name}": round(float(value), 6) for name, value in probability.items()}
    columns = {"width": width, "height": height, "class": " | ".join(names), **shown}
    return Presented({"heat": png(over(image, heat))}, columns)


def arrays(
    region: Region, examples: ImageExamples, row: int, prediction: Prediction
) -> Mapping[str, npt.NDArray[Any]]:
    """Returns what is stored of a case to look at.

    It is `image`, what the network sees, uint8 (H, W), `heat`, `probability`, and what else there is.

    `whole`, uint8 (1, H, W), is the image where masks take something away. Where a stage takes masks, `mask`
    is what `keep` is about, and `mask_heart` that of a structure, uint8 (H, W). Of patches, `patches` is
    their table and `heats` the map of each class; see `Prediction`.
    """
    pixels = {"image": region.seen(examples, row)}
    if (mask := region.mask(examples, row)) is not None:
        assert examples.masks is not None
        names = [f"mask_{name}" for name in examples.masks.structures]
        pixels |= {
            "mask": mask.astype(np.uint8) * 255,
            **dict(zip(names, examples.masks_of(row), strict=True)),
        }
    shown: dict[str, npt.NDArray[Any]] = {name: _shrunk(name, plane) for name, plane in pixels.items()}
    if not region.is_whole:
        shown["whole"] = _shrunk("whole", examples.case(row)[0][0])[None]
    shown |= {"heat": prediction.heat, "probability": prediction.probability}
    if prediction.patches is not None and prediction.heats is not None:
        shown |= {"patches": prediction.patches, "heats": prediction.heats}
    return shown


def _shrunk(name: str, plane: Pixels) -> Pixels:
    return shrunk(plane, smooth=not name.startswith("mask"))
