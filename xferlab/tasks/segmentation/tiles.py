"""The geometry of tiles: which squares cover an image, which are drawn to train on, how they blend again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from xferlab.training.learner import AugmentationSeed
from xferlab.training.randomness import between

Positions = npt.NDArray[np.intp]
"""(T, 2): first row and first column of each tile."""

_LEAST = 1e-6
"""A weight that is no more than rounding beside another, yet enough for a pixel that has no other."""


def tile_grid(height: int, width: int, *, size: int, overlap: float, align: int = 1) -> Positions:
    """Returns where the tiles lie that cover an image, row by row, (T, 2).

    They begin at multiples of a stride of `size * (1 - overlap)`; the last of each row and column is moved
    back to end with the image. A side shorter than a tile has one tile, which begins at 0 and reaches beyond.

    Args:
        height: Of the image, px.
        width: Of the image, px.
        size: Side of a tile.
        overlap: Share of the side that neighbours have in common at least, from 0 to below 1.
        align: The stride is rounded down to a multiple of it (at least one), so that all tiles begin at
            multiples where size, height and width are multiples too: a network that pools then sees the same
            blocks in every tile.
    """
    stride = max(align, int(size * (1.0 - overlap)) // align * align)
    rows, columns = _starts(height, size, stride), _starts(width, size, stride)
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)


def _starts(length: int, size: int, stride: int) -> npt.NDArray[np.intp]:
    last = max(length - size, 0)
    return np.minimum(np.arange(0, last + stride, stride, dtype=np.intp), last)


def blend_weights(size: int, overlap: float) -> npt.NDArray[np.float32]:
    """Returns how much each pixel of a tile counts where tiles overlap, (size, size) float32 in (0, 1].

    Towards each side it falls as a squared sine over the middle half of the overlap (at most half a tile).
    It is 1 in the quarter before that, and nearly 0 in the last quarter, where a network knows least of the
    surroundings: there a tile counts only where no other tile does. The weights of two neighbours that
    overlap by as much add up to 1.
    """
    ramp = min(round(size * overlap), size // 2)
    rest = ramp // 4
    along = (np.arange(ramp) - rest + 0.5) / max(ramp - 2 * rest, 1)
    rise = np.sin(0.5 * np.pi * np.clip(along, 0.0, 1.0)) ** 2
    side = np.ones(size)
    side[:ramp], side[size - ramp :] = rise, rise[::-1]
    side = np.maximum(side, _LEAST)
    return np.outer(side, side).astype(np.float32)


def stitch(
    tiles: Iterable[npt.NDArray[np.float32]],
    positions: Positions,
    *,
    shape: tuple[int, int],
    weights: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Returns the weighted mean of overlapping tiles of probabilities, (..., height, width) float32, 0..1.

    Where tiles agree it is what they say, to float precision.

    Args:
        tiles: (..., S, S), 0..1, in the order of the positions; what reaches beyond the image is left out.
        positions: From `tile_grid`: each pixel is in a tile.
        shape: Height and width of the image.
        weights: From `blend_weights`, above 0.
    """
    total = weight = np.zeros(shape, np.float32)
    for number, (tile, (top, left)) in enumerate(zip(tiles, positions.tolist(), strict=True)):
        if number == 0:
            total = np.zeros((*tile.shape[:-2], *shape), np.float32)
        area = np.s_[..., top : top + tile.shape[-2], left : left + tile.shape[-1]]
        height, width = weight[area].shape
        total[area] += (tile * weights)[..., :height, :width]
        weight[area] += weights[:height, :width]
    return np.asarray(np.clip(total / weight, 0.0, 1.0))


class Anchors:
    """The structure's pixels of one target: a drawn tile may have to contain one of them.

    Attributes:
        size: Height and width of the target.
        count: Number of its structure pixels.
    """

    def __init__(self, target: npt.NDArray[np.uint8], *, structure: int):
        """Counts the structure's pixels of a target (H, W); keeps the view, and a number for each row."""
        self._target, self._structure = target, structure
        self._up_to = np.count_nonzero(target == structure, axis=1).cumsum()
        self.size = (target.shape[0], target.shape[1])
        self.count = int(self._up_to[-1])

    def pick(self, share: float) -> tuple[int, int]:
        """Returns row and column of the structure pixel at a share of them all, from 0 to below 1."""
        number = min(int(share * self.count), self.count - 1)
        row = int(np.searchsorted(self._up_to, number, side="right"))
        before = int(self._up_to[row - 1]) if row else 0
        columns = np.flatnonzero(self._target[row] == self._structure)
        return row, int(columns[number - before])


def draw_tiles(
    anchors: Sequence[Sequence[Anchors]],
    keys: npt.NDArray[np.uint64],
    draw: AugmentationSeed,
    *,
    size: int,
    hit: float,
) -> Positions:
    """Returns one tile for each case, (N, 2), a pure function of the draw and the case.

    A tile leaves the image only where that is smaller, at its lower and right sides.

    Args:
        anchors: The structures of each case.
        keys: 64 bits of each case, (N,).
        draw: Seed and epoch.
        size: Side of a tile in px.
        hit: Probability that the tile contains one pixel of a structure, of each that is there with equal
            chance, any pixel with equal chance, at any position that contains it with equal chance. Other
            tiles, and those of cases without structure, lie anywhere: more than this share contain some
            structure.
    """
    draws = {
        purpose: between(keys, draw, f"tile_{purpose}", low=0.0, high=1.0)
        for purpose in ("hit", "anchor", "row", "column")
    }
    positions = np.zeros((len(keys), 2), dtype=np.intp)
    for case, structures in enumerate(anchors):
        hits = draws["hit"][case] < hit
        pixel = _picked(structures, float(draws["anchor"][case])) if hits else None
        for axis, purpose in enumerate(("row", "column")):
            first, last = _range(structures[0].size[axis], size, pixel[axis] if pixel else None)
            positions[case, axis] = first + int(draws[purpose][case] * (last - first + 1))
    return positions


def _picked(structures: Sequence[Anchors], share: float) -> tuple[int, int] | None:
    """Returns a pixel of a structure, each with equal chance, from a number from 0 to below 1."""
    present = [structure for structure in structures if structure.count]
    if not present:
        return None
    number = int(share * len(present))
    return present[number].pick(share * len(present) - number)


def _range(length: int, size: int, anchor: int | None) -> tuple[int, int]:
    """Returns the first and the last start of a tile, which contains the anchor if there is one."""
    last = max(length - size, 0)
    if anchor is None:
        return 0, last
    return max(0, anchor - size + 1), min(anchor, last)
