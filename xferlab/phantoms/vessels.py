"""Branching vessels of the lungs, drawn as line segments on a fixed canvas and brought to size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from xferlab.phantoms.anatomy import Grid, Habitus
from xferlab.phantoms.fields import Field

CANVAS_PX = 512
GENERATIONS = 7

Segments = NDArray[np.float64]


def grow_tree(rng: np.random.Generator, side: int, *, aspect: float) -> list[Segments]:
    """Let one lung's vessels branch from its hilum.

    Returns:
        Per generation an array `(n, 5)` of segments: x and y of both ends in units of `x`, and the width.
    """
    roots = 8
    hilum = np.array([side * 0.24, (0.42 if side > 0 else 0.45) * aspect])
    angle = np.linspace(-1.35, 1.5, roots) + rng.normal(0, 0.12, roots)
    at = hilum + rng.normal(0, 0.05, (roots, 2)) + np.stack([np.zeros(roots), 0.12 * angle], 1)
    width = rng.uniform(0.03, 0.046, roots)
    length = rng.uniform(0.11, 0.22, roots) * (1 + 0.25 * np.abs(angle))
    generations = []
    for _ in range(GENERATIONS):
        step = np.stack([side * np.cos(angle), np.sin(angle)], 1) * length[:, None]
        generations.append(np.column_stack([at, at + step, width]))
        spread = rng.uniform(0.12, 0.6, len(angle))
        skew = rng.normal(0, 0.25, len(angle))
        at = np.repeat(at + step, 2, axis=0)
        angle = np.stack([angle + skew - spread, angle + skew + spread], 1).ravel()
        width = np.repeat(width, 2) * rng.uniform(0.6, 0.78, len(angle))
        length = np.repeat(length, 2) * rng.uniform(0.65, 0.95, len(angle))
    return generations


def draw_segments(generations: list[Segments], grid: Grid, habitus: Habitus) -> Field:
    """Draw segments; lines thinner than a pixel of the canvas are drawn fainter instead.

    Returns:
        `(size_px, size_px)` float32, 0..1.
    """
    left, right, top, bottom = habitus.frame
    half = (right - left) / 2
    canvas = Image.new("L", (CANVAS_PX, CANVAS_PX), 0)
    pen = ImageDraw.Draw(canvas)
    for segments in reversed(generations):
        lean = habitus.lean * (segments[:, [1, 3]] / grid.aspect - 0.5)
        across = ((left + right) / 2 + (segments[:, [0, 2]] - lean) * half) * CANVAS_PX
        along = (top + segments[:, [1, 3]] / grid.aspect * (bottom - top)) * CANVAS_PX
        width = segments[:, 4] * half * CANVAS_PX
        shade = 70 + 185 * np.clip(width / 10, 0, 1)
        shade *= np.clip(width, 0.2, 1)
        ends = np.stack([across[:, 0], along[:, 0], across[:, 1], along[:, 1]], 1)
        for line, thickness, value in zip(
            ends.tolist(),
            np.maximum(np.rint(width), 1).astype(int).tolist(),
            shade.astype(int).tolist(),
            strict=True,
        ):
            pen.line(line, fill=value, width=thickness)
    canvas = canvas.filter(ImageFilter.BoxBlur(1.2))
    small = canvas.resize((grid.size_px, grid.size_px), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / np.float32(255)
