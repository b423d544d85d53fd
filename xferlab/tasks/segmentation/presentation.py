"""What `predict` writes for one image: masks, an overlay, and figures about them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.ndimage import label

from xferlab.tasks.pictures import overlay, png
from xferlab.tasks.segmentation.config import files_of
from xferlab.training.learner import Presented

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def present(image: npt.NDArray[np.uint8], masks: Mapping[str, npt.NDArray[np.bool_]]) -> Presented:
    """Returns masks and overlay at the image's size; pixels only, no metadata.

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
