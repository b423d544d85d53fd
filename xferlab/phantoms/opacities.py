"""Opacities of diseased lungs: the share of air that fluid replaces, from 0 (clear) to nearly 1 (solid)."""

from __future__ import annotations

import numpy as np

from xferlab.phantoms.anatomy import LEFT, RIGHT, Grid, LungField
from xferlab.phantoms.fields import Field, ellipse, noise, octaves, soft

Lungs = tuple[LungField, LungField]


def _merge(first: Field, second: Field) -> Field:
    """Overlay two independent shares: air remains where both leave it."""
    return np.asarray(1 - (1 - first) * (1 - second))


def ground_glass(rng: np.random.Generator, grid: Grid, lungs: Lungs) -> Field:
    """Bilateral, peripheral and basal haze with consolidated cores, as in COVID-19.

    Returns:
        `(size_px, size_px)` float32 in 0..0.97.
    """
    severity = rng.uniform(0.45, 1.0)
    texture = octaves(rng, 9, 3, grid.size_px)
    total = np.zeros_like(grid.x)
    for side, lung in zip((RIGHT, LEFT), lungs, strict=True):
        blotches = octaves(rng, 4, 2, grid.size_px)
        bias = 1.3 * lung.outward + 1.1 * np.clip(lung.height, 0, 1) - 1.55 + rng.normal(0, 0.15)
        haze = 0.75 * severity * soft(blotches * 0.8 + bias + severity * 0.9 - 0.45, 1.2)
        total += np.where(lung.inside > -0.1, haze, 0)
        for _ in range(rng.integers(2, 6)):
            at = (side * rng.uniform(0.45, 0.92), rng.uniform(0.3, 0.92) * grid.aspect)
            axes = (rng.uniform(0.1, 0.26), rng.uniform(0.12, 0.34))
            patch = ellipse(grid.x, grid.y, at=at, axes=axes, turn=rng.uniform(0, np.pi))
            core = soft(patch + 0.06 * texture, 0.16) * np.float32(rng.uniform(0.4, 0.95) * severity)
            total = _merge(total, core)
    return np.clip(total * (0.9 + 0.18 * texture), 0, 0.97)


def _lobe(rng: np.random.Generator, lung: LungField, which: str) -> Field:
    """Signed depth inside one lobe; fissures are sharp, the far ends fade."""
    slope = rng.uniform(-0.15, 0.15)
    height, outward = lung.height, lung.outward
    fissure = rng.uniform(0.38, 0.46) + slope * (outward - 0.5)
    if which == "upper":
        return np.asarray(fissure - height)
    if which == "middle":
        return np.asarray(np.minimum(height - fissure - 0.04, 0.75 - 0.5 * outward - 0.25 * height))
    return np.asarray(height - rng.uniform(0.45, 0.68) + 0.15 * (outward - 0.5))


def _effusion(rng: np.random.Generator, lung: LungField) -> Field:
    """Fluid over the diaphragm whose meniscus climbs the lateral wall."""
    level = rng.uniform(0.62, 0.85)
    surface = lung.height - level + 0.28 * np.clip(lung.outward - 0.35, 0, 1) ** 2
    return soft(np.asarray(surface, np.float32), 0.06) * np.float32(0.95)


def lobar(rng: np.random.Generator, grid: Grid, lungs: Lungs) -> Field:
    """Consolidated lobes, patchy bronchopneumonia, streaks around the hila, sometimes an effusion.

    Returns:
        `(size_px, size_px)` float32 in 0..0.97.
    """
    texture = octaves(rng, 6, 3, grid.size_px)
    total = np.zeros_like(grid.x)
    first = int(rng.integers(0, 2))
    for number in range(int(rng.integers(1, 4))):
        side = (first + number) % 2
        lung = lungs[side]
        which = str(rng.choice(["upper", "middle", "lower"] if side == 0 else ["upper", "lower"]))
        depth = _lobe(rng, lung, which)
        dense = rng.uniform(0.3, 0.97)
        share = soft(np.asarray(depth + 0.035 * texture, np.float32), rng.uniform(0.04, 0.22))
        share *= np.clip(dense + 0.18 * texture, 0, 0.97)
        total = _merge(total, np.where(lung.inside > -0.1, share, 0))
    for lung in lungs:
        if rng.random() < 0.22:
            total = _merge(total, np.where(lung.inside > -0.1, _effusion(rng, lung), 0))
    if rng.random() < 0.6:
        streaks = np.abs(noise(rng, 22, grid.size_px)) * np.exp(-((np.abs(grid.x) - 0.25) ** 2) / 0.08)
        centre = np.exp(-((grid.v - 0.5) ** 2) / 0.06)
        total = _merge(total, np.clip(0.35 * streaks * centre, 0, 0.6))
    return np.clip(total, 0, 0.97)
