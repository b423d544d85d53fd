"""Small pictures of single cases, as trials store them and reports show them."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE_PX = 256
"""The longer side of each panel."""
_QUALITY = 85


def scaled(array: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Returns an array (H, W) with 256 px at the longer side, smooth."""
    height, width = array.shape
    scale = SIDE_PX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(array).resize(size, Image.Resampling.BILINEAR))


def encoded(panels: Sequence[npt.NDArray[np.uint8]]) -> bytes:
    """Returns panels (H, W, 3) of one height beside each other as a JPEG, about 20 kB each pair."""
    sink = io.BytesIO()
    # Colours keep their full resolution: outlines are one pixel wide.
    Image.fromarray(np.concatenate(panels, axis=1)).save(sink, format="JPEG", quality=_QUALITY, subsampling=0)
    return sink.getvalue()
