"""Pictures of single cases: segmentations drawn on their images, and the small ones that trials store."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import find_objects, gaussian_filter, maximum_filter, minimum_filter

SIDE_PX = 256
"""The longer side of each panel."""
STORED_PX = 512
"""Longest side of what trials store of a case to look at."""
_QUALITY = 85
_PNG_LEVEL = 3  # twice as fast as the default, for a tenth more bytes
FILL_OPACITY = 0.24
TRUTH = (240, 228, 66)
"""Yellow, which no structure has."""
LINES_PER_SIDE = 350
"""The outline is one 350th of the shorter side wide, so that it looks alike at every resolution."""
COLOURS: tuple[tuple[tuple[int, int, int], tuple[int, int, int]], ...] = (
    ((0, 114, 178), (86, 180, 233)),  # sky blue, filled with blue
    ((230, 159, 0), (230, 159, 0)),  # orange
    ((0, 158, 115), (0, 158, 115)),  # green
    ((204, 121, 167), (204, 121, 167)),  # purple
    ((213, 94, 0), (213, 94, 0)),  # vermilion
    ((240, 240, 240), (240, 240, 240)),  # white
)
"""Fill and outline of each structure in pictures, in order; from the seventh on, they begin again.

Of Okabe and Ito (2008): distinct for all common kinds of colour blindness, and but for the last unlike any
grey of a radiograph. Yellow is left to outlines of the truth.
"""


def scaled(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns an array (H, W) with 256 px at the longer side, smooth."""
    height, width = array.shape
    scale = SIDE_PX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(array).resize(size, Image.Resampling.BILINEAR))


def shrunk(array: NDArray[np.uint8], *, smooth: bool) -> NDArray[np.uint8]:
    """Returns an array (H, W) of a case to look at, shrunk to at most 512 px at the longer side."""
    height, width = array.shape
    scale = min(1.0, STORED_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    resampling = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(array).resize(size, resampling))


def overlay(image: NDArray[np.uint8], masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """Returns the image with each mask filled and outlined in its colour of `COLOURS`.

    Outlines have a dark casing, so that they are seen on bone and on air alike. They lie on all fills, and
    later ones on earlier ones. The image's border is no outline.

    Args:
        image: Grey, `(H, W)`.
        masks: `(H, W)` each.

    Returns:
        RGB, uint8, `(H, W, 3)`; the image's own greys beyond the fills and the outlines.
    """
    drawn = np.repeat(image[..., None].astype(np.float32), 3, axis=-1)
    for mask, (fill, _) in zip(masks, cycle(COLOURS), strict=False):
        drawn[mask] += FILL_OPACITY * (np.array(fill, np.float32) - drawn[mask])
    for mask, (_, line) in zip(masks, cycle(COLOURS), strict=False):
        _outline(drawn, mask, line)
    return np.rint(drawn).astype(np.uint8)


def panels(outputs: Mapping[str, NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Returns the image of `Learner.outputs`, and the same with the output and the reference over it."""
    return [panel(outputs["image"]), overlaid(outputs)]


def panel(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns a grey image (H, W) as RGB, uint8, `(H, W, 3)`, 256 px at the longer side."""
    return np.repeat(scaled(image)[..., None], 3, axis=-1)


def overlaid(outputs: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Returns the image of `Learner.outputs` with its masks filled and the reference outlined in yellow.

    Masks are the arrays `mask...`, or `probability` from 0.5 on, and references are `target...`. RGB, uint8,
    `(H, W, 3)`, 256 px at the longer side.
    """
    masks = [scaled(array) > 127 for name, array in outputs.items() if name.startswith(("prob", "mask"))]
    drawn = overlay(scaled(outputs["image"]), masks).astype(np.float32)
    for name, array in outputs.items():
        if name.startswith("target"):
            # Ignored pixels are 127.
            _outline(drawn, scaled(np.where(array == 255, array, 0)) > 127, TRUTH)
    return np.rint(drawn).astype(np.uint8)


def encoded(panels: Sequence[NDArray[np.uint8]]) -> bytes:
    """Returns panels (H, W, 3) of one height beside each other as a JPEG, about 20 kB each pair."""
    sink = io.BytesIO()
    # Colours keep their full resolution: outlines are one pixel wide.
    Image.fromarray(np.concatenate(panels, axis=1)).save(sink, format="JPEG", quality=_QUALITY, subsampling=0)
    return sink.getvalue()


def _outline(drawn: NDArray[np.float32], mask: NDArray[np.bool_], line: tuple[int, int, int]) -> None:
    width_px = max(1, round(min(mask.shape) / LINES_PER_SIDE))
    box = _box(mask, margin=4 * width_px + 4)
    part, inside = drawn[box], mask[box]
    _blend(part, np.zeros(3, np.float32), 0.7 * _band(inside, 2 * width_px))
    _blend(part, np.array(line, np.float32), _band(inside, width_px))


def _box(mask: NDArray[np.bool_], *, margin: int) -> tuple[slice, ...]:
    """Rows and columns that the outline can touch: most of a radiograph is none of them."""
    boxes = find_objects(mask.view(np.uint8))
    if not boxes:
        return slice(0), slice(0)
    return tuple(slice(max(0, side.start - margin), side.stop + margin) for side in boxes[0])


def _band(mask: NDArray[np.bool_], width_px: int) -> NDArray[np.float32]:
    """Opacity of a smooth band along the mask's border, most of it inside the mask."""
    grey = mask.astype(np.uint8)
    outer = maximum_filter(grey, size=2 * (width_px // 2) + 1)
    inner = minimum_filter(grey, size=2 * ((width_px + 1) // 2) + 1)
    band = (outer - inner).astype(np.float32)
    return np.asarray(gaussian_filter(band, 0.45)) if width_px > 1 else band


def _blend(part: NDArray[np.float32], colour: NDArray[np.float32], opacity: NDArray[np.float32]) -> None:
    part += opacity[..., None] * (colour - part)


def map_png(values: NDArray[np.floating[Any]], *, largest: float) -> bytes:
    """Returns values (H, W) as a grey PNG of 16 bits: 0 is 0, 65535 is the largest value."""
    return png(np.rint(np.clip(values / largest, 0, 1) * np.iinfo(np.uint16).max).astype(np.uint16))


def png(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """Returns an image (H, W), or RGB (H, W, 3), as a PNG without metadata."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format="PNG", compress_level=_PNG_LEVEL)
    return sink.getvalue()
