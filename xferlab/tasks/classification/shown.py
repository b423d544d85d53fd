"""The arrays that are stored of a case to look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from xferlab.tasks.classification.prediction import Prediction
from xferlab.tasks.classification.regions import Region
from xferlab.training.examples import ImageExamples, Pixels

LARGEST_PX = 512
"""Of a stored image's side: larger ones are shrunk."""


def arrays(
    region: Region, examples: ImageExamples, row: int, prediction: Prediction
) -> Mapping[str, npt.NDArray[Any]]:
    """Returns `image`, what the network sees, uint8 (H, W), `heat`, `probability`, and what else there is.

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
    height, width = plane.shape
    scale = min(1.0, LARGEST_PX / max(height, width))
    if scale == 1.0:
        return plane
    smooth = Image.Resampling.NEAREST if name.startswith("mask") else Image.Resampling.BILINEAR
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(plane).resize(size, smooth))
