"""Maps of where a network looks (Grad-CAM): at the size of an image, how much lies inside, and in colour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from xferlab.tasks.pictures import scaled

Heat = npt.NDArray[np.float32]
"""(h, w) in [0, 1]; its maximum is 1, or it is 0 everywhere."""


def stretched(heat: Heat, *, width: int, height: int) -> Heat:
    """Returns the map at a size, (height, width), bilinear (arias-garzon2021, figures 6 to 18)."""
    picture = Image.fromarray(np.ascontiguousarray(heat, np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), np.float32)


def share_inside(heat: Heat, inside: npt.NDArray[np.bool_] | None) -> float:
    """Returns the sum of the map inside of masks by its whole sum, in [0, 1].

    Args:
        heat: The map.
        inside: (H, W); None where there are no masks.

    Returns:
        NaN without masks, or where nothing speaks for the class.
    """
    if inside is None:
        return float("nan")
    whole = stretched(heat, width=inside.shape[1], height=inside.shape[0]).astype(np.float64)
    total = float(whole.sum())
    return float(whole[inside].sum()) / total if total > 0 else float("nan")


_COLOURS = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float64)
"""From 0 to 1 in equal steps: inferno of matplotlib, which lies in the order of its brightness."""


def over(image: npt.NDArray[np.uint8], heat: Heat) -> npt.NDArray[np.uint8]:
    """Returns a grey image (H, W) with heat over it, (H, W, 3): the hotter, the less of the image is left."""
    height, width = image.shape
    shares = stretched(heat, width=width, height=height).clip(0.0, 1.0)
    places = np.linspace(0.0, 1.0, len(_COLOURS))
    colour = np.stack([np.interp(shares, places, _COLOURS[:, channel]) for channel in range(3)], axis=-1)
    opacity = 0.7 * shares[..., None]
    blended = (1.0 - opacity) * image[..., None] + opacity * colour
    return cast("npt.NDArray[np.uint8]", np.rint(blended).astype(np.uint8))


def panels(outputs: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[np.uint8]]:
    """Returns the image of `Learner.outputs`, and the same with heat over it.

    RGB, uint8, (H, W, 3), 256 px at the longer side.
    """
    image = scaled(outputs["image"])
    return [np.repeat(image[..., None], 3, axis=-1), over(image, outputs["heat"])]
