"""Bones of the chest in projection: thickness maps, about 1 for a rib seen face on."""

from __future__ import annotations

import numpy as np

from xferlab.phantoms.anatomy import Grid, Habitus, LungShape, cage_half_width
from xferlab.phantoms.fields import Field, ellipse, soft

NUM_RIBS = 12


def _band(phase: Field, half: Field, edge: Field) -> Field:
    """Profile of ribs that lie at whole numbers of `phase`: a flat band with denser margins."""
    offset = np.abs(phase - np.rint(phase))
    inside = np.clip((half - offset) / edge + 0.5, 0, 1)
    margin = np.clip(offset / half, 0, 1) ** 2
    return np.asarray(inside * (0.62 + 0.6 * margin * margin))


def _visible(phase: Field) -> Field:
    """1 where the nearest rib is one of the first to the last."""
    number = np.rint(phase)
    return ((number >= 0) & (number < NUM_RIBS)).astype(np.float32)


def ribs(
    rng: np.random.Generator, grid: Grid, habitus: Habitus, shapes: tuple[LungShape, LungShape]
) -> Field:
    """Posterior and anterior ribs, which are one tilted ellipse each, on both sides.

    Returns:
        `(size_px, size_px)` float32.
    """
    across, down = rng.uniform(-0.01, 0.05), rng.uniform(0.16, 0.28)
    start, front = rng.uniform(-0.06, 0.0), rng.uniform(0.1, 0.2)
    half = np.float32(rng.uniform(0.21, 0.29))
    sag = 0.02 + 0.16 * np.clip(grid.v - 0.3, 0, 0.8)
    total = np.zeros_like(grid.x)
    for shape in shapes:
        x = grid.x * np.float32(shape.side)
        width = cage_half_width(shape, grid.v + 0.03) * np.float32(1.03) + np.float32(0.02)
        s = np.clip(x / width, 0.0, 1.0)
        root = np.sqrt(s)
        arc = np.sqrt(np.clip(1 - s * root, 0.003, 1))
        slope = np.float32(0.75 * down) * root / arc
        steep = np.sqrt(1 + (slope * grid.aspect) ** 2)
        pitch = np.float32(habitus.rib_pitch)
        edge = np.float32(max(grid.pixel, 0.012) / (grid.aspect * pitch)) * steep
        thick = np.minimum(half * steep, 0.46)
        behind = (grid.v - start - down * (1 - arc) + across * np.sin(np.pi * s) - sag * s) / pitch
        before = (grid.v - start - front - down * (1 + 0.9 * arc) + 0.06 * (1 - s)) / pitch
        reach = np.where((behind > 9.5) & (s > 0.75), np.float32(0.3), np.float32(1))
        cage = soft(width - x, 2 * grid.pixel) * np.minimum(np.sqrt(steep), 1.8)
        total += _band(behind, thick, edge) * _visible(behind) * cage * soft(x - 0.1, 0.06) * reach
        cartilage = np.clip((s - 0.42) / 0.25, 0, 1)
        total += 0.6 * _band(before, thick * 1.15, edge) * _visible(before) * cage * cartilage
    return total


def spine(rng: np.random.Generator, grid: Grid) -> Field:
    """Vertebral bodies with gaps for the discs, pedicles and spinous processes."""
    pitch, half = rng.uniform(0.088, 0.105), rng.uniform(0.095, 0.12)
    phase = grid.v / np.float32(pitch) + np.float32(rng.uniform(0, 1))
    offset = phase - np.rint(phase)
    waist = half * (0.92 + 0.3 * offset * offset)
    body = soft(waist - np.abs(grid.x), max(2 * grid.pixel, 0.03))
    disc = 1 - 0.45 * np.clip((np.abs(offset) - 0.34) / 0.08, 0, 1)
    local = offset * np.float32(pitch * grid.aspect)
    pedicles = soft(ellipse(np.abs(grid.x), local, at=(0.6 * half, -0.02), axes=(0.022, 0.035)), 0.03)
    process = soft(ellipse(grid.x, local, at=(0.0, 0.05), axes=(0.018, 0.05)), 0.03)
    transverse = soft(ellipse(np.abs(grid.x), local, at=(1.4 * half, -0.02), axes=(0.09, 0.025)), 0.03)
    return np.asarray(body * disc + 0.35 * (pedicles + process) + 0.3 * transverse)


def clavicles(rng: np.random.Generator, grid: Grid, habitus: Habitus) -> Field:
    """Signed distance to the two collar bones, positive inside, in units of `x`."""
    nearest = np.full_like(grid.x, -1)
    rise = rng.uniform(0.0, 0.14) + (0.08 if habitus.child else 0.0)
    for side in (-1, 1):
        x = grid.x * np.float32(side)
        t = (x - 0.14) / 0.95
        level = rng.uniform(0.06, 0.12) + 0.04 * habitus.shoulder_v
        bend = 0.035 * np.sin(2 * np.pi * np.clip(t, 0, 1)) - (rise + rng.normal(0, 0.015)) * t
        slope = 0.035 * 2 * np.pi / 0.95 * np.cos(2 * np.pi * np.clip(t, 0, 1)) - rise / 0.95
        off = np.abs(grid.v - level - bend) * grid.aspect / np.sqrt(1 + (slope * grid.aspect) ** 2)
        half = 0.045 + 0.03 * (1 - np.clip(t * 4, 0, 1)) - 0.008 * np.sin(np.pi * np.clip(t, 0, 1))
        ends = np.minimum(x - 0.12, 1.12 - x)
        nearest = np.maximum(nearest, np.minimum(half - off, ends))
    return np.asarray(nearest, np.float32)


def shoulders(rng: np.random.Generator, grid: Grid, habitus: Habitus) -> Field:
    """Scapulae, faint over the upper outer lung, and the heads and shafts of the humeri."""
    total = np.zeros_like(grid.x)
    top = (habitus.shoulder_v + 0.13) * grid.aspect
    out = rng.uniform(0.0, 0.2)
    for side in (-1, 1):
        x = grid.x * np.float32(side)
        at = 0.98 + out + rng.normal(0, 0.02)
        blade = ellipse(x, grid.y, at=(at, top + 0.38), axes=(0.2, 0.42), turn=rng.uniform(0.1, 0.35))
        rim = np.clip(1 - np.abs(blade - 0.03) / 0.035, 0, 1)
        total += 0.22 * soft(blade, 0.03) + 0.3 * rim
        joint = at + 0.28
        total += 1.2 * soft(ellipse(x, grid.y, at=(joint, top + 0.02), axes=(0.14, 0.16)), 0.03)
        lean = -0.9 if habitus.child else rng.uniform(0.0, 0.15)
        shaft = 0.075 - np.abs(x - joint - 0.05 - lean * np.abs(grid.y - top))
        below = grid.y - top if not habitus.child else top - grid.y
        total += 0.9 * soft(shaft, 0.03) * soft(below, 0.05)
    return total
