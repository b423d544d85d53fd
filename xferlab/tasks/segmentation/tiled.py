"""Segmentation at native size by tiles: seeded random ones to train on, overlapping ones to predict."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from xferlab.tasks.segmentation.native import (
    NativeBatch,
    OwnSizeSegmentation,
    predict_windows,
    window_of,
)
from xferlab.tasks.segmentation.resized import ImageBatch
from xferlab.tasks.segmentation.sections import Tiling
from xferlab.tasks.segmentation.tiles import (
    Anchors,
    Positions,
    blend_weights,
    draw_tiles,
    stitch,
    tile_grid,
)
from xferlab.tasks.segmentation.windows import labels_of, normalised
from xferlab.training.batches import Rows
from xferlab.training.examples import STRUCTURE, NativeExamples
from xferlab.training.learner import AugmentationSeed
from xferlab.training.structures import Probabilities
from xferlab.training.upload import uploaded

VALIDATION_TILES = 4
"""Tiles of each case that the validation loss is the mean over."""

PREDICTED_PX = 2**20
"""Pixels that go through the network at once when predicting; at least one tile."""


@dataclass(frozen=True)
class TiledSegmentation(OwnSizeSegmentation):
    """Segmentation of images of any size by square tiles.

    Training sees one tile of each case in each epoch, normalised by the statistics of the whole image, and
    turned together with its surroundings, so that nothing is filled in where the image goes on. Outside of
    the image a tile has the image's minimum and counts nowhere.

    The validation loss is the mean over four tiles of each case that are the same in every epoch and trial.
    They lie anywhere with equal chance: tiles near the structure would not see what a network finds
    elsewhere.

    A prediction is the smooth blend of overlapping tiles that cover the image; it has the image's size.

    Attributes:
        tiles: How images are cut.
    """

    tiles: Tiling

    def batch(self, examples: NativeExamples, rows: Rows, draw: AugmentationSeed | None) -> NativeBatch:
        """Returns a random tile of each case, augmented; without a draw, the fixed ones of validation."""
        if draw is None:
            return NativeBatch(examples, rows, lambda: self._fixed(examples, rows))
        drawn = self._turned(examples, rows, draw)
        return NativeBatch(examples, rows, lambda: (drawn,))

    def _fixed(self, examples: NativeExamples, rows: Rows) -> tuple[ImageBatch, ...]:
        # No training has an epoch below 1.
        draws = [AugmentationSeed(0, -number) for number in range(1, VALIDATION_TILES + 1)]
        tiles = [self.drawn(examples, rows, draw, hit=0.0) for draw in draws]
        return tuple(self.base.framed(*self._cut(examples, rows, positions)) for positions in tiles)

    def drawn(self, examples: NativeExamples, rows: Rows, draw: AugmentationSeed, *, hit: float) -> Positions:
        """Returns a random tile of each case; arguments as in `draw_tiles`."""
        anchors = [_anchors(examples, row) for row in rows.tolist()]
        return draw_tiles(anchors, examples.keys[rows], draw, size=self.tiles.size, hit=hit)

    def _turned(self, examples: NativeExamples, rows: Rows, draw: AugmentationSeed) -> ImageBatch:
        margin, size = self._margin(), self.tiles.size
        positions = self.drawn(examples, rows, draw, hit=self.tiles.hit)
        images, targets = self._cut(examples, rows, positions, margin=margin, draw=draw)
        images, targets = self.base.moved(images, targets, examples.keys[rows], draw)
        centre = slice(margin, margin + size)
        return self.base.framed(images[..., centre, centre], targets[..., centre, centre])

    def _margin(self) -> int:
        """What a tile needs on each side to be turned and shrunk without a fill."""
        degrees = min(self.base.rotation[0], 45.0) if self.base.rotation is not None else 0.0
        scale = self.base.augmentation.scale if self.base.augmentation is not None else None
        angle = math.radians(degrees)
        reach = (math.cos(angle) + math.sin(angle)) / min(1.0, scale[0] if scale else 1.0)
        return math.ceil(0.5 * self.tiles.size * (reach - 1.0)) + 1 if reach > 1.0 else 0

    def _cut(
        self,
        examples: NativeExamples,
        rows: Rows,
        positions: Positions,
        *,
        margin: int = 0,
        draw: AugmentationSeed | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns images and targets of the tiles, with a margin on each side, float32, on the device."""
        shape = (self.tiles.size + 2 * margin,) * 2
        images, labels = [], []
        for row, (top, left) in zip(rows.tolist(), (positions - margin).tolist(), strict=True):
            images.append(window_of(self.base, examples, row, (top, left), shape, draw))
            labels.append(labels_of(examples, row, (top, left), shape))
        return torch.stack(images), uploaded(torch.stack(labels), examples.device)

    def whole(self, model: nn.Module, examples: NativeExamples, row: int) -> Probabilities:
        """Returns the probabilities (S, H, W) of one image, blended from its tiles."""
        height, width = examples.size(row)
        size, overlap = self.tiles.size, self.tiles.overlap
        rows, columns, align = self.padded(height), self.padded(width), self.base.size_multiple
        positions = tile_grid(rows, columns, size=size, overlap=overlap, align=align)
        tiles = self._predicted(model, examples, row, positions)
        return stitch(tiles, positions, shape=(height, width), weights=blend_weights(size, overlap))

    def _predicted(
        self, model: nn.Module, examples: NativeExamples, row: int, positions: Positions
    ) -> Iterator[Probabilities]:
        whole, size = normalised(examples, row, self.base.intensity), self.tiles.size
        at_once = max(1, PREDICTED_PX // size**2)
        for start in range(0, len(positions), at_once):
            corners = positions[start : start + at_once].tolist()
            windows = [whole.window(top, left, (size, size)) for top, left in corners]
            yield from predict_windows(self.base, model, windows, examples.device)


def _anchors(examples: NativeExamples, row: int) -> list[Anchors]:
    """The pixels of each structure of a case; reads the whole targets the first time."""
    return examples.once(
        ("anchors", row),
        lambda: [Anchors(target, structure=STRUCTURE) for target in examples.case(row)[1]],
    )
