"""Foreign objects as augmentation: bright lines and discs, drawn on the device for a whole batch.

They are simpler than the cables and electrodes that evaluation sets are made with: no training sees those.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from xferlab.training.learner import AugmentationSeed
from xferlab.training.randomness import between
from xferlab.training.upload import uploaded

WHITE = 255.0
LINE_SHARE = 0.6
"""Share of objects that are lines; the others are discs."""

_INNER = (0.15, 0.85)
_LINE_HALF_WIDTH, _DISC_RADIUS = (0.002, 0.008), (0.015, 0.05)
_OPACITY = (0.3, 0.95)


def lay_on(
    images: torch.Tensor, keys: npt.NDArray[np.uint64], draw: AugmentationSeed, *, most: int
) -> torch.Tensor:
    """Returns images with up to `most` objects each; an object blends grey levels with white.

    A line runs from an edge of the image to a point inside it, a disc lies inside. Sizes are shares of the
    shorter side: lines 0.4 to 1.6 % wide, discs 3 to 10 %; opacity 0.3 to 0.95, edges one pixel soft.

    Args:
        images: (N, C, H, W) float32, 0..255; unchanged.
        keys: 64 bits of each case, (N,).
        draw: Seed and epoch.
        most: Largest number of objects; 0 to that many are equally likely.
    """
    counts = np.floor(between(keys, draw, "objects", low=0.0, high=most + 1.0))
    for number in range(int(counts.max(initial=0))):
        capsules = _capsules(keys, draw, number=number, size=(images.shape[2], images.shape[3]))
        capsules[:, 5] *= number < counts
        cover = _coverage(uploaded(capsules, images.device), images)
        images = images + cover * (WHITE - images)
    return images


def _capsules(
    keys: npt.NDArray[np.uint64], draw: AugmentationSeed, *, number: int, size: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """One object a case: row and column of both ends, radius (pixels) and opacity, (N, 6).

    A disc is a line whose ends are the same.
    """

    def drawn(what: str, bounds: tuple[float, float] = (0.0, 1.0)) -> npt.NDArray[np.float64]:
        return between(keys, draw, f"object {number} {what}", low=bounds[0], high=bounds[1])

    height, width, side = *size, min(size)
    line = drawn("kind") < LINE_SHARE
    end = np.stack([drawn("row", _INNER) * height, drawn("column", _INNER) * width], axis=1)
    along, edge = drawn("along"), np.floor(drawn("edge", (0.0, 4.0)))
    on_row = np.select([edge == 0, edge == 1], [0.0, 1.0], along) * height
    on_column = np.select([edge == 2, edge == 3], [0.0, 1.0], along) * width
    start = np.where(line[:, None], np.stack([on_row, on_column], axis=1), end)
    thickness = drawn("thickness")
    low, high = np.where(line, np.array(_LINE_HALF_WIDTH)[:, None], np.array(_DISC_RADIUS)[:, None])
    radius = (low + (high - low) * thickness) * side
    columns = [start[:, 0], start[:, 1], end[:, 0], end[:, 1], radius, drawn("opacity", _OPACITY)]
    return np.stack(columns, axis=1).astype(np.float32)


def _coverage(capsules: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Opacity of each pixel, (N, 1, H, W): 1 at less than the radius from the line, softened by a pixel."""
    height, width = images.shape[-2:]
    top, left, bottom, right, radius, opacity = capsules.reshape(-1, 6, 1, 1).unbind(1)
    rows = torch.arange(height, dtype=torch.float32, device=images.device).reshape(-1, 1) + 0.5 - top
    columns = torch.arange(width, dtype=torch.float32, device=images.device) + 0.5 - left
    down, across = bottom - top, right - left
    length = (down * down + across * across).clamp_min(1e-6)
    nearest = ((rows * (down / length)) + (columns * (across / length))).clamp(0.0, 1.0)
    away_down, away_across = rows - nearest * down, columns - nearest * across
    distance = (away_down * away_down + away_across * away_across).sqrt()
    return ((radius + 0.5 - distance).clamp(0.0, 1.0) * opacity).unsqueeze(1)
