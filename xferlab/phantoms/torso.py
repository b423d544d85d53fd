"""Soft tissue of the chest in projection: body, heart and great vessels, airways, gas below the diaphragm."""

from __future__ import annotations

import numpy as np

from xferlab.phantoms.anatomy import Grid, Habitus
from xferlab.phantoms.fields import Field, blend, dome, ellipse, soft


def body(rng: np.random.Generator, grid: Grid, habitus: Habitus) -> Field:
    """Thickness of the patient along the ray, about 1 in the middle, 0 in the air around."""
    x = np.abs(grid.x)
    v = grid.v
    flank = 1 + habitus.wall + rng.uniform(-0.05, 0.12) * np.clip(v - 0.8, 0, 1)
    trunk = np.clip(1 - (x / flank) ** 2, 0, 1) ** 0.36
    neck = rng.uniform(0.28, 0.4)
    level = habitus.shoulder_v + 0.1 * np.clip((x - neck) / 0.8, 0, 1.5) - 0.16 * np.exp(-((x / neck) ** 4))
    top = soft((v - level) * grid.aspect, 0.12)
    upper = 0.5 + 0.5 * np.clip((v - level) / 0.25, 0, 1)
    trunk = trunk * top * upper
    joint = 1.25 + rng.uniform(0, 0.15)
    lean = rng.uniform(-0.9, -0.4) if habitus.child else rng.uniform(0.0, 0.25)
    reach = np.abs(v - habitus.shoulder_v - 0.12)
    arm = 0.26 - np.abs(x - joint - lean * reach)
    towards = -1 if habitus.child else 1
    limb = 0.5 * dome(arm, 0.26) * np.clip(0.5 + towards * (v - habitus.shoulder_v - 0.12) / 0.12, 0, 1)
    deltoid = 0.55 * dome(
        ellipse(x, grid.y, at=(joint, (habitus.shoulder_v + 0.13) * grid.aspect), axes=(0.3, 0.34)), 0.3
    )
    return np.asarray(np.maximum(np.maximum(trunk, limb), deltoid), np.float32)


def breasts(rng: np.random.Generator, grid: Grid, habitus: Habitus) -> Field:
    """Extra tissue with a sharp lower fold, 0 everywhere without breasts."""
    if not habitus.breasts:
        return np.zeros_like(grid.x)
    low, out = rng.uniform(0.72, 1.0), rng.uniform(0.5, 0.65)
    fold = ellipse(np.abs(grid.x), grid.y, at=(out, (low - 0.2) * grid.aspect), axes=(0.42, 0.46))
    rounded = dome(fold, 0.5) * np.clip((grid.v - low + 0.42) / 0.4, 0, 1)
    return np.asarray(rounded * np.float32(habitus.breasts), np.float32)


def heart(rng: np.random.Generator, grid: Grid, habitus: Habitus, floor_v: float) -> Field:
    """Signed distance to the silhouette of the heart, positive inside, in units of `x`.

    Args:
        rng: The anatomy's stream.
        grid: Patient coordinates.
        habitus: Build.
        floor_v: Level of the domes; the heart lies on them.
    """
    size = habitus.heart
    turn = rng.uniform(0.5, 0.9)
    low = floor_v * grid.aspect
    left = ellipse(
        grid.x, grid.y, at=(0.13 + 0.04 * size, low - 0.32 * size), axes=(0.56 * size, 0.33 * size), turn=turn
    )
    right = ellipse(grid.x, grid.y, at=(-0.03, low - 0.36), axes=(0.25 * size, 0.4 * size))
    outflow = ellipse(grid.x, grid.y, at=(0.05, low - 0.72 * size), axes=(0.22, 0.4))
    whole = blend(blend(left, outflow, 0.25), right, 0.06)
    return np.asarray(np.minimum(whole, (floor_v + 0.07 - grid.v) * grid.aspect), np.float32)


def mediastinum(rng: np.random.Generator, grid: Grid, habitus: Habitus) -> Field:
    """Signed distance to the great vessels, the knob of the aorta and, in children, the thymus."""
    half = rng.uniform(0.17, 0.22) + 0.05 * np.clip(0.25 - grid.v, -1, 0.3)
    trunk = np.minimum(half - np.abs(grid.x - 0.01), (grid.v + 0.2) * grid.aspect)
    radius = 0.1 + 0.07 * habitus.aorta
    knob = ellipse(grid.x, grid.y, at=(0.13, 0.27 * grid.aspect), axes=(radius, radius * 1.2))
    artery = ellipse(grid.x, grid.y, at=(0.16, 0.4 * grid.aspect), axes=(0.13, 0.2), turn=0.3)
    whole = blend(blend(trunk, knob, 0.04), artery, 0.06)
    if habitus.child and rng.random() < 0.35:
        thymus = ellipse(grid.x, grid.y, at=(0.0, 0.25 * grid.aspect), axes=(rng.uniform(0.28, 0.42), 0.4))
        whole = np.maximum(whole, thymus)
    return np.asarray(whole, np.float32)


def airways(rng: np.random.Generator, grid: Grid) -> Field:
    """Air in the trachea and the main bronchi, 0..1."""
    half, carina = rng.uniform(0.05, 0.07), rng.uniform(0.34, 0.4)
    drift = 0.03 * rng.normal() + 0.0 * grid.v
    tube = soft(half - np.abs(grid.x + drift), 0.04) * soft((carina - grid.v) * grid.aspect, 0.05)
    tube = tube * soft((grid.v + 0.3) * grid.aspect, 0.3)
    below = np.clip((grid.v - carina) * grid.aspect, 0, None)
    for side, steep in ((-1, 0.7), (1, 1.0)):
        branch = 0.8 * half - np.abs(grid.x * side - steep * below + drift)
        tube = np.maximum(tube, 0.4 * soft(branch, 0.04) * (below > 0) * soft(0.3 - below, 0.1))
    return np.asarray(tube, np.float32)


def gas(rng: np.random.Generator, grid: Grid, floor_v: float) -> Field:
    """Bubble of the stomach under the left dome and loops of bowel below, 0..1."""
    total = np.zeros_like(grid.x)
    if rng.random() < 0.7:
        at = (rng.uniform(0.3, 0.6), (floor_v + rng.uniform(0.09, 0.14)) * grid.aspect)
        axes = (rng.uniform(0.1, 0.28), rng.uniform(0.05, 0.12))
        total += dome(ellipse(grid.x, grid.y, at=at, axes=axes, turn=rng.normal(0, 0.2)), 0.1)
    for _ in range(int(rng.integers(0, 5))):
        at = (rng.uniform(-0.2, 0.8), (floor_v + rng.uniform(0.2, 0.45)) * grid.aspect)
        axes = (rng.uniform(0.06, 0.16), rng.uniform(0.05, 0.09))
        total += 0.6 * dome(ellipse(grid.x, grid.y, at=at, axes=axes, turn=rng.uniform(0, 3)), 0.1)
    return np.clip(total, 0, 1)
