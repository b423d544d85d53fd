"""What `predict` writes for one image: heat over it, the class, and the probability of each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from xferlab.tasks.classification.heat import Heat, over
from xferlab.tasks.pictures import png
from xferlab.training.learner import Presented


def present(
    image: npt.NDArray[np.uint8],
    heat: Heat,
    probability: Mapping[str, float],
    called: npt.NDArray[np.bool_],
) -> Presented:
    """Returns a PNG and figures; pixels only, no metadata.

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
