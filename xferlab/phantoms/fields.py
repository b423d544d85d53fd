"""Smooth random fields and soft edges in normalised coordinates: equal at every size up to sampling."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]

# Root mean square, over the cell, of the weights of a cubic B-spline in one dimension:
# white nodes of variance 1 give a field of this deviation.
_SPLINE_RMS = 0.6921


def generator(*coordinates: str | int) -> np.random.Generator:
    """Make the random stream that belongs to these coordinates; equal arguments give equal streams.

    Returns:
        A PCG64 generator seeded with SHA-256 of the coordinates.
    """
    entropy = int.from_bytes(hashlib.sha256("/".join(map(str, coordinates)).encode()).digest(), "big")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def to_uint8(film: Field) -> NDArray[np.uint8]:
    """Round 0..1 to 0..255; what lies outside is clipped."""
    return np.clip(np.rint(film * 255), 0, 255).astype(np.uint8)


@lru_cache(maxsize=64)
def _spline_taps(cells: int, size_px: int) -> tuple[NDArray[np.intp], Field]:
    """First node `(size_px,)` and the four weights `(4, size_px)` of a cubic B-spline at pixel centres."""
    position = (np.arange(size_px) + 0.5) / size_px * cells
    cell = np.minimum(position.astype(int), cells - 1)
    t = position - cell
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3])
    return cell, (weights / 6).astype(np.float32)


def _along_rows(nodes: Field, size_px: int) -> Field:
    """Samples a spline with nodes `(cells + 3, n)` at `size_px` rows.

    Written out: a matrix product gives other bits with every BLAS, and its threads spin beside the decoders.
    """
    cell, weights = _spline_taps(len(nodes) - 3, size_px)
    samples: Field = weights[0][:, None] * nodes[cell]
    for tap in (1, 2, 3):
        samples += weights[tap][:, None] * nodes[cell + tap]
    return samples


def noise(rng: np.random.Generator, cells: int, size_px: int) -> Field:
    """Draw a smooth field with about `cells` bumps across, mean 0, deviation 1.

    Returns:
        `(size_px, size_px)` float32.
    """
    nodes = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32)
    rows = _along_rows(nodes, size_px)
    return _along_rows(np.ascontiguousarray(rows.T), size_px).T / np.float32(_SPLINE_RMS**2)


def noise_rows(rng: np.random.Generator, cells: int, size_px: int) -> Field:
    """Draw a smooth function of the row, mean 0, deviation 1.

    Returns:
        `(size_px, 1)` float32.
    """
    nodes = rng.standard_normal((cells + 3, 1), dtype=np.float32)
    return _along_rows(nodes, size_px) / np.float32(_SPLINE_RMS)


def octaves(rng: np.random.Generator, cells: int, count: int, size_px: int) -> Field:
    """Sum `count` fields, each twice as fine and 0.6 times as strong as the one before; deviation about 1.

    Returns:
        `(size_px, size_px)` float32.
    """
    total = np.zeros((size_px, size_px), np.float32)
    for octave in range(count):
        total += np.float32(0.6**octave) * noise(rng, cells * 2**octave, size_px)
    return total / np.float32(np.sqrt(sum(0.36**octave for octave in range(count))))


def soft(distance: Field, width: float) -> Field:
    """Turn a signed distance (inside positive) into coverage 0..1 with a linear edge of the given width."""
    return np.asarray(np.clip(distance / np.float32(width) + np.float32(0.5), 0, 1))


def dome(distance: Field, depth: float) -> Field:
    """Thickness 0..1 of a rounded body: rises like a root with the distance from its edge."""
    return np.asarray(np.sqrt(np.clip(distance / np.float32(depth), 0, 1)))


def ellipse(
    x: Field, y: Field, *, at: tuple[float, float], axes: tuple[float, float], turn: float = 0.0
) -> Field:
    """Approximate signed distance to an ellipse, inside positive, in the unit of the coordinates.

    Args:
        x: Columns' coordinate, broadcastable with `y`.
        y: Rows' coordinate.
        at: Centre.
        axes: Semi-axes.
        turn: Rotation in radians, from x towards y.
    """
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    dx, dy = x - np.float32(at[0]), y - np.float32(at[1])
    along = (dx * cos + dy * sin) / np.float32(axes[0])
    across = (dy * cos - dx * sin) / np.float32(axes[1])
    radius = np.sqrt(along * along + across * across)
    return np.asarray((1 - radius) * np.float32(min(axes)))


def blend(first: Field, second: Field, width: float) -> Field:
    """Join two shapes by their signed distances; the notch between them is filled over `width`."""
    share = np.clip(0.5 + 0.5 * (first - second) / np.float32(width), 0, 1)
    return np.asarray(second + (first - second) * share + np.float32(width / 2) * share * (1 - share))


def wide_blur(field: Field, width: float) -> Field:
    """Blur over about `width` of the picture's sides; two box passes, so the width costs nothing."""
    size = [max(1, round(width * side)) for side in field.shape]
    once = scipy.ndimage.uniform_filter(field, size, mode="nearest")
    return np.asarray(scipy.ndimage.uniform_filter(once, size, mode="nearest"))


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the largest 4-connected component; an empty mask stays empty."""
    components, count = scipy.ndimage.label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(components.ravel())[1:]
    return np.asarray(components == 1 + int(np.argmax(sizes)))
