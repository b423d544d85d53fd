"""Local features of thumbnails: what a small window shows, whatever its grey levels, sign and turn.

A thumbnail is turned into a response: its middle frequencies, equally strong all over the image, so that
gamma, window and brightness change little and a negative has the opposite sign. Features stand at the extrema
of the response (blobs, as in Lowe 2004). Each is described by the low frequencies of the cosine transform of
a window around it, times the sign of the extremum, so that a negative has the same description. A mirror
image or a quarter turn permutes these numbers and changes their signs: one description serves all turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xferlab.leakage.thumbnails import SIDE_PX, Grey

MOST = 96
"""Features of a thumbnail, at most."""

Floats = NDArray[np.float32]
Whole = NDArray[np.int64]


class Band(NamedTuple):
    """Frequencies of an image: sigmas in pixels of the Gaussians that bound them, and of their strength."""

    fine_px: float
    coarse_px: float
    even_px: float


MIDDLE = Band(1.5, 6.0, 8.0)
"""What features describe, and what images are aligned by."""

_EPSILON, _WEAKEST = 0.02, 0.35
_WINDOW, _STEP_PX, _APART_PX, _WAVES = 7, 4, 7, 6
_MARGIN_PX = _WINDOW * _STEP_PX // 4

_ROWS, _COLUMNS = np.array(
    [(down, across) for down in range(_WAVES) for across in range(_WAVES) if 0 < down + across <= _WAVES]
).T
NUM_WAVES = len(_ROWS)
_MEANS = {(0, 2): -1.0, (2, 2): 1.0, (0, 4): 0.6, (2, 4): -0.6}
MEAN = np.array(
    [_MEANS.get((min(wave), max(wave)), 0.0) for wave in zip(_ROWS, _COLUMNS, strict=True)], np.float32
)
SPREAD = np.array([0, 2.24, 1.7, 1.25, 1.1, 0.77, 0.74], np.float32)[_ROWS + _COLUMNS]
"""Mean and standard deviation of the waves of radiographs and MRI slices, alike for an image and its turn."""


class Features(NamedTuple):
    """The features of an image at one size.

    Attributes:
        x: `(K,)`, pixels to the right of the image's centre.
        y: `(K,)`, pixels below it.
        sign: `(K,)`, 1 where the response is high, -1 where it is low.
        waves: `(K, NUM_WAVES)`, the description.
    """

    x: Floats
    y: Floats
    sign: Floats
    waves: Floats


class Turn(NamedTuple):
    """One of the eight ways to lay an image on itself: a swap of the axes, if any, then mirrorings."""

    swapped: bool
    across: int
    down: int

    def image(self, pixels: Floats) -> Floats:
        """Returns `(H, W)` pixels turned."""
        turned = pixels.T if self.swapped else pixels
        return turned[:: self.down, :: self.across]

    def places(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Returns where places are after the turn, from the centre."""
        x, y = (y, x) if self.swapped else (x, y)
        return x * self.across, y * self.down

    def matrix(self) -> Floats:
        """Returns what makes the waves of a turned image of those of the image, `(NUM_WAVES, NUM_WAVES)`."""
        rows, columns = (_COLUMNS, _ROWS) if self.swapped else (_ROWS, _COLUMNS)
        same = (rows[:, None] == _ROWS) & (columns[:, None] == _COLUMNS)
        signs = np.where(_COLUMNS % 2 == 1, self.across, 1) * np.where(_ROWS % 2 == 1, self.down, 1)
        return np.asarray(same * signs, np.float32)


TURNS = tuple(
    Turn(swapped, across, down) for swapped in (False, True) for across in (1, -1) for down in (1, -1)
)


def features(thumbnail: Grey, size: Sequence[int]) -> Features:
    """Returns the features of an image at a size, strongest first.

    Args:
        thumbnail: `(H, W)`.
        size: Height and width to bring it to before.
    """
    shown = response(thumbnail, size)
    rows, columns = _extrema(shown, round(MOST * max(size) / SIDE_PX))
    sign = np.sign(shown[rows, columns])
    waves = _waves(shown, rows, columns) * sign[:, None]
    x, y = (places - (side - 1) / 2 for places, side in ((columns, size[1]), (rows, size[0])))
    return Features(x.astype(np.float32), y.astype(np.float32), sign, waves)


def response(thumbnail: Grey, size: Sequence[int], *, band: Band = MIDDLE) -> Floats:
    """Returns the frequencies of a band of a thumbnail at a size, equally strong all over the image."""
    ranks: Floats = thumbnail.astype(np.float32) / np.float32(256)
    shown = _blurred(ranks, size, band.fine_px) - _blurred(ranks, size, band.coarse_px)
    strength = _blurred(shown * shown, size, band.even_px)
    return np.asarray(shown / np.sqrt(strength + np.float32(_EPSILON**2)), np.float32)


def _blurred(image: Floats, size: Sequence[int], sigma_px: float) -> Floats:
    """An image at a size, blurred by a Gaussian of so many of its pixels."""
    down, across = (_gaussian(*sides, sigma_px) for sides in zip(image.shape, size, strict=True))
    return np.asarray(down @ image @ across.T, np.float32)


@lru_cache(4096)
def _gaussian(before: int, after: int, sigma_px: float) -> Floats:
    """The weights that bring a line of so many pixels to another number of them, `(after, before)`."""
    places = (np.arange(after) + 0.5) * before / after - 0.5
    distances = (np.arange(before) - places[:, None]) * after / before / sigma_px
    # Numbers further out are small enough to slow a processor down.
    weights = np.where(np.abs(distances) < 4, np.exp(-(distances**2) / 2), 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _extrema(shown: Floats, most: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the strongest extrema whose windows lie (nearly) inside."""
    size = np.abs(shown)
    edge = _MARGIN_PX - _APART_PX // 2
    around = _highest(_highest(size[edge:-edge, edge:-edge]).T).T
    inner = size[_MARGIN_PX:-_MARGIN_PX, _MARGIN_PX:-_MARGIN_PX]
    peaks = (inner == around) & (inner > _WEAKEST)
    rows, columns = (places + _MARGIN_PX for places in np.nonzero(peaks))
    order = np.argsort(-size[rows, columns], kind="stable")[:most]
    return rows[order], columns[order]


def _highest(values: Floats) -> Floats:
    """The highest of each `_APART_PX` rows that follow each other; eight times as fast as SciPy."""
    span = 1
    while span < _APART_PX:
        step = min(span, _APART_PX - span)
        values, span = np.maximum(values[:-step], values[step:]), span + step
    return values


def _waves(shown: Floats, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Floats:
    """The low frequencies of the windows around places, `(K, NUM_WAVES)`."""
    steps = (np.arange(_WINDOW) - _WINDOW // 2) * _STEP_PX
    down, across = (
        np.clip(places[:, None] + steps, 0, side - 1)
        for places, side in zip((rows, columns), shown.shape, strict=True)
    )
    windows = shown[down[:, :, None], across[:, None, :]]
    cosines = _cosines()
    return np.asarray((cosines @ windows @ cosines.T)[:, _ROWS, _COLUMNS], np.float32)


@lru_cache(1)
def _cosines() -> Floats:
    waves = np.cos(np.arange(_WAVES)[:, None] * (np.arange(_WINDOW) + 0.5) * np.pi / _WINDOW)
    return np.asarray(waves / np.linalg.norm(waves, axis=1, keepdims=True), np.float32)
