"""The small picture of a translated case."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from xferlab.tasks.pictures import overlaid, panel


def panels(outputs: Mapping[str, NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Returns the image, its translation, and where there are masks the image with them over it."""
    has_masks = any(name.startswith("mask") for name in outputs)
    images = [panel(outputs[name]) for name in ("image", "translated")]
    return [*images, overlaid(outputs) if has_masks else panel(outputs["recovered"])]
