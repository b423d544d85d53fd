"""The patient of a chest X-ray: numbers that differ between patients, and fields that follow from them.

Patient coordinates: `x` from the midline, 1 at the widest point of the lungs, positive towards the patient's
left (the picture's right); `v` from 0 at the apex of the lungs to 1 at the costophrenic angle; `y` is `v` in
the unit of `x`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xferlab.phantoms.fields import Field, noise_rows, soft

RIGHT, LEFT = -1, 1


@dataclass(frozen=True)
class LungShape:
    """Outline of one lung in patient coordinates."""

    side: int
    apex_v: float
    apex_x: float
    medial_x: float
    medial_slope: float
    base_v: float
    dome_v: float
    dome_at: float
    medial_drop: float
    roundness: float
    fullness: float


@dataclass(frozen=True)
class Habitus:
    """Everything about a chest but the outlines of the lungs.

    Attributes:
        child: Narrow heart apex, thymus, thin wall, arms raised.
        frame: Left, right, top and bottom of the lungs as shares of the picture.
        lean: Shear of the upright axis.
        wall: Thickness of the chest wall in units of `x`.
        bulk: Attenuation of soft tissue; above 1 for large patients.
        heart: Relative size of the heart.
        aorta: Prominence of the aortic knob.
        breasts: Thickness of breast tissue, 0 for none.
        bone: Attenuation of bone.
        rib_pitch: Distance of two ribs in units of `v`.
        shoulder_v: Height of the shoulders.
    """

    child: bool
    frame: tuple[float, float, float, float]
    lean: float
    wall: float
    bulk: float
    heart: float
    aorta: float
    breasts: float
    bone: float
    rib_pitch: float
    shoulder_v: float


@dataclass(frozen=True)
class Grid:
    """Patient coordinates of the pixels.

    Attributes:
        size_px: Side of the picture.
        x: `(size_px, size_px)`.
        v: `(size_px, 1)`.
        y: `(size_px, 1)`, `v` in units of `x`.
        aspect: Units of `x` in one unit of `v`.
        pixel: Width of a pixel in units of `x`.
    """

    size_px: int
    x: Field
    v: Field
    y: Field
    aspect: float
    pixel: float


@dataclass(frozen=True)
class LungField:
    """Distances of every pixel from the borders of one lung, positive inside, in units of `x`.

    Attributes:
        lateral: From the ribs.
        medial: From the mediastinal border.
        basal: From the diaphragm.
        outward: 0 at the medial border, 1 at the lateral one.
        height: 0 at the apex, 1 at the costophrenic angle, `(size_px, 1)`.
    """

    lateral: Field
    medial: Field
    basal: Field
    outward: Field
    height: Field

    @property
    def inside(self) -> Field:
        """Distance from the nearest border, `(size_px, size_px)`."""
        return np.asarray(np.minimum(np.minimum(self.lateral, self.medial), self.basal))


def draw_lungs(rng: np.random.Generator) -> tuple[LungShape, LungShape]:
    """Draw the right and the left lung of one patient."""
    apex_x, dome = rng.uniform(0.38, 0.52), rng.uniform(0.71, 0.9)
    roundness, fullness = rng.uniform(1.7, 2.5), rng.uniform(0.42, 0.6)
    shapes = []
    for side in (RIGHT, LEFT):
        lower = 0.0 if side == RIGHT else rng.uniform(-0.01, 0.05)
        shapes.append(
            LungShape(
                side=side,
                apex_v=rng.uniform(0, 0.03),
                apex_x=apex_x + rng.uniform(-0.03, 0.03),
                medial_x=rng.uniform(0.12, 0.22),
                medial_slope=rng.uniform(-0.06, 0.1),
                base_v=1 - rng.uniform(0, 0.05),
                dome_v=min(dome + lower, 0.93),
                dome_at=rng.uniform(0.25, 0.5),
                medial_drop=rng.uniform(0.0, 0.06),
                roundness=roundness,
                fullness=fullness + rng.uniform(-0.03, 0.03),
            )
        )
    return shapes[0], shapes[1]


def draw_habitus(rng: np.random.Generator) -> Habitus:
    """Draw size, position and build of one patient."""
    child = bool(rng.random() < 0.45)
    left, right = rng.normal(0.1, 0.05), 1 - rng.normal(0.105, 0.05)
    top = rng.normal(0.13, 0.055)
    height = rng.normal(0.75, 0.1)
    frame = (max(left, -0.02), min(right, 1.02), max(top, -0.01), float(np.clip(top + height, 0.6, 1.02)))
    return Habitus(
        child=child,
        frame=frame,
        lean=rng.normal(0, 0.05),
        wall=rng.uniform(0.1, 0.2) if child else rng.uniform(0.14, 0.38),
        bulk=rng.uniform(0.88, 1.0) if child else rng.uniform(0.92, 1.2),
        heart=rng.uniform(0.9, 1.15) if child else rng.uniform(0.8, 1.25),
        aorta=rng.uniform(0.0, 0.3) if child else rng.uniform(0.4, 1.1),
        breasts=0.0 if child or rng.random() < 0.5 else rng.uniform(0.06, 0.18),
        bone=rng.uniform(0.6, 1.25),
        rib_pitch=rng.uniform(0.088, 0.108),
        shoulder_v=rng.uniform(-0.2, -0.06) if child else rng.uniform(-0.12, 0.02),
    )


def make_grid(rng: np.random.Generator, habitus: Habitus, size_px: int) -> Grid:
    """Lay patient coordinates, with a little scoliosis, over a picture of `size_px`."""
    left, right, top, bottom = habitus.frame
    centre = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px
    v = ((centre - top) / (bottom - top))[:, None].astype(np.float32)
    half = (right - left) / 2
    curve = 0.03 * noise_rows(rng, 3, size_px) + habitus.lean * (v - 0.5)
    x = ((centre - (left + right) / 2) / half)[None, :].astype(np.float32) + curve
    aspect = float((bottom - top) / half)
    return Grid(size_px, x.astype(np.float32), v, v * np.float32(aspect), aspect, 1 / (half * size_px))


def cage_half_width(shape: LungShape, v: Field) -> Field:
    """Inner half width of the rib cage at height `v`; it goes on above the apex and below the base."""
    rise = np.clip(v, 0, 1)
    spread = (1 - (1 - rise) ** np.float32(shape.roundness)) ** np.float32(shape.fullness)
    return np.asarray(shape.apex_x + (1 - shape.apex_x) * spread)


def lung_field(rng: np.random.Generator, shape: LungShape, grid: Grid) -> LungField:
    """Measure every pixel against the borders of one lung, whose outline waves a little."""
    x = grid.x * np.float32(shape.side)
    height = (grid.v - np.float32(shape.apex_v)) / np.float32(shape.base_v - shape.apex_v)
    wave, ripple = (noise_rows(rng, cells, grid.size_px) for cells in (7, 18))
    lateral_at = cage_half_width(shape, height) + 0.012 * wave + 0.006 * ripple
    near_apex = np.clip(height / 0.13, 0, 1)
    shoulder = 1 - np.sqrt(np.clip(1 - (1 - near_apex) ** 2, 0, 1))
    medial = shape.medial_x + shape.medial_slope * (height - 0.4) + 0.012 * noise_rows(rng, 9, grid.size_px)
    medial_at = medial + (shape.apex_x - medial) * shoulder
    span = np.maximum(lateral_at - medial_at, np.float32(0.05))
    outward = np.clip((x - medial_at) / span, -0.2, 1.1)
    beyond = np.clip((outward - shape.dome_at) / (1 - shape.dome_at), 0, None)
    before = np.clip((shape.dome_at - outward) / shape.dome_at, 0, 1.2)
    dome_v = shape.dome_v + (shape.base_v - shape.dome_v) * beyond**2 + shape.medial_drop * before**2
    basal = (dome_v - grid.v) * np.float32(grid.aspect)
    above = np.where(height > 0, np.float32(0), np.float32(-1))
    return LungField(lateral_at - x + above, x - medial_at + above, basal, outward, height)


def lung_air(field: LungField, pixel: float) -> Field:
    """Thickness 0..1 of air along the ray through one lung: steep at ribs and dome, gentle at the hilum."""
    edge = max(1.5 * pixel, 0.012)
    inside = soft(field.lateral, edge) * soft(field.medial, 4 * edge) * soft(field.basal, 2 * edge)
    depth = np.clip(field.lateral / 0.32, 0.0, 1) ** 0.55
    towards_spine = 0.55 + 0.45 * np.clip(field.medial / 0.25, 0, 1)
    towards_base = 0.7 + 0.3 * np.clip(field.basal / 0.3, 0, 1)
    apex = 0.65 + 0.35 * np.clip(field.height / 0.25, 0, 1)
    return np.asarray(inside * depth * towards_spine * towards_base * apex, np.float32)
