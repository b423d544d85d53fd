"""Brain MRI: axial slices with a glioma-like lesion that is bright on FLAIR."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from xferlab.phantoms.fields import (
    Field,
    ellipse,
    generator,
    largest_component,
    noise,
    octaves,
    soft,
    to_uint8,
)
from xferlab.phantoms.phantom import BRAIN_LABELS, Phantom

SLICES_PER_PATIENT = 4
LEVELS = (0.33, 0.48, 0.63, 0.8)

# Signal on the pre-contrast, the FLAIR and the post-contrast sequence, 0..1.
GREY, WHITE = (0.235, 0.31, 0.27), (0.285, 0.24, 0.32)
FLUID, BONE, FAT, MUSCLE = (0.11, 0.07, 0.13), (0.04, 0.03, 0.05), (0.76, 0.66, 0.48), (0.3, 0.26, 0.36)
TUMOUR, RIM, CORE, VESSEL = (0.2, 0.66, 0.25), (0.27, 0.6, 0.72), (0.14, 0.5, 0.17), (0.16, 0.12, 0.62)


@dataclass(frozen=True)
class Head:
    """One patient's head and lesion.

    Attributes:
        width: Half width of the head as share of the picture.
        length: Half length of the head as share of the picture.
        shift: Centre of the head from the picture's centre.
        turn: Rotation in radians.
        scalp: Thickness of the fat under the skin, in units of the half width.
        ventricles: Relative size of the ventricles.
        atrophy: Width of the sulci.
        lesion: Centre x, y (units of the half width), level and radius; radius 0 for none.
        enhancing: Share of the lesion's radius that takes up contrast agent, 0 for none.
        gains: Of the three sequences.
    """

    width: float
    length: float
    shift: tuple[float, float]
    turn: float
    scalp: float
    ventricles: float
    atrophy: float
    lesion: tuple[float, float, float, float]
    enhancing: float
    gains: tuple[float, float, float]


@dataclass(frozen=True)
class Plane:
    """Coordinates of a slice in units of the head's half width; `y` points to the back of the head.

    Attributes:
        x: `(S, S)`, positive to the picture's right.
        y: `(S, S)`.
        level: Height in the head, 0 at the skull base, 1 at the vertex.
        surface: Signed distance to the surface of the brain, positive inside.
        skin: Signed distance to the skin, positive inside.
        pixel: Width of a pixel.
    """

    x: Field
    y: Field
    level: float
    surface: Field
    skin: Field
    pixel: float


def brain_patient(index: int) -> int:
    """Return the patient of a slice: `SLICES_PER_PATIENT` consecutive indices belong to one patient."""
    return index // SLICES_PER_PATIENT


def brain_mri(*, seed: int, index: int, size_px: int = 256) -> Phantom:
    """Draw one axial slice; slices of a patient share head and lesion and differ in level.

    Args:
        seed: Of the data set.
        index: Of the slice, from 0; see `brain_patient`.
        size_px: Side of the square picture; the picture is the same at every size but for the grain.

    Returns:
        Image uint8 `(size_px, size_px, 3)`: pre-contrast, FLAIR, post-contrast. Labels as `BRAIN_LABELS`;
        empty in the slices that the lesion does not reach.
    """
    head = _draw_head(generator("phantom", seed, "brain", brain_patient(index)))
    rng = generator("phantom", seed, "brain", "slice", index)
    level = LEVELS[index % SLICES_PER_PATIENT] + rng.uniform(-0.05, 0.05)
    plane = _lay(rng, head, level, size_px)
    signal = _tissue(rng, head, plane)
    lesion = _add_lesion(rng, head, plane, signal)
    labels = np.where(lesion > 0, BRAIN_LABELS["lesion"], BRAIN_LABELS["background"]).astype(np.uint8)
    return Phantom(_record(rng, head, signal), labels)


def _draw_head(rng: np.random.Generator) -> Head:
    width = rng.uniform(0.37, 0.425)
    side = 1 if rng.random() < 0.5 else -1
    at = (side * rng.uniform(0.15, 0.62), rng.uniform(-0.75, 0.6), rng.uniform(0.42, 0.76))
    radius = rng.uniform(0.24, 0.52) if rng.random() < 0.95 else 0.0
    return Head(
        width=width,
        length=min(width * rng.uniform(1.13, 1.28), 0.5),
        shift=(rng.normal(0, 0.012), rng.normal(0, 0.015)),
        turn=rng.normal(0, 0.05),
        scalp=rng.uniform(0.04, 0.12),
        ventricles=rng.uniform(0.75, 1.4),
        atrophy=rng.uniform(0.6, 1.3),
        lesion=(*at, radius),
        enhancing=rng.uniform(0.35, 0.7) if rng.random() < 0.45 else 0.0,
        gains=(rng.uniform(0.8, 1.25), rng.uniform(0.8, 1.3), rng.uniform(0.75, 1.25)),
    )


def _lay(rng: np.random.Generator, head: Head, level: float, size_px: int) -> Plane:
    centre = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px - 0.5
    across, down = centre[None, :] - head.shift[0], centre[:, None] - head.shift[1]
    cos, sin = np.cos(head.turn) / head.width, np.sin(head.turn) / head.width
    x = (across * cos + down * sin).astype(np.float32)
    y = (down * cos - across * sin).astype(np.float32)
    shrink = float(np.sqrt(1 - (max(level - 0.5, 0) / 0.62) ** 2))
    length = head.length / head.width * shrink
    # The forehead is narrower than the back of the head.
    taper = x * (1 - 0.09 * np.clip(-y, -1, 1.2))
    bumps = 0.015 * noise(rng, 4, size_px)
    skin = ellipse(taper, y, at=(0, 0), axes=(shrink, length)) + bumps
    inner = head.scalp + 0.1
    surface = ellipse(taper, y, at=(0, 0), axes=(shrink - inner, length - inner - 0.02)) + bumps
    return Plane(x, y, level, surface.astype(np.float32), skin.astype(np.float32), 1 / (head.width * size_px))


def _paint(signal: NDArray[np.float32], *layers: tuple[Field, tuple[float, float, float]]) -> None:
    """Replace a share 0..1 of what is in each pixel by a tissue, in place, layer by layer."""
    for share, tissue in layers:
        signal += share[..., None] * (np.asarray(tissue, np.float32) - signal)


def _tissue(rng: np.random.Generator, head: Head, plane: Plane) -> NDArray[np.float32]:
    """Healthy head: scalp, skull, cortex with sulci, white matter, ventricles, and the base if it is low."""
    size_px, surface = plane.x.shape[0], plane.surface
    edge = max(1.5 * plane.pixel, 0.012)
    signal = np.zeros((size_px, size_px, 3), np.float32)
    _paint(
        signal,
        (soft(plane.skin, edge), MUSCLE),
        (soft(plane.skin - 0.015, edge), FAT),
        (soft(surface + 0.1 + 0.008 * noise(rng, 8, size_px), edge), BONE),
        (soft(0.018 - np.abs(surface + 0.075), edge) * np.float32(rng.uniform(0.0, 0.5)), FAT),
        (soft(surface + 0.035, edge), FLUID),
        (soft(0.02 - np.abs(surface + 0.1 + 0.02 * noise(rng, 6, size_px)), edge) * 0.5, MUSCLE),
    )
    folds, winding = octaves(rng, 15, 2, size_px), octaves(rng, 16, 2, size_px)
    _paint(
        signal,
        (soft(surface + 0.012 * folds, edge), GREY),
        (soft(surface - 0.12 + 0.075 * winding, 0.04), WHITE),
    )
    _sulci(head, plane, signal, folds)
    _midline(rng, plane, signal, edge)
    if plane.level < 0.72:
        _ventricles(rng, head, plane, signal)
    if plane.level < 0.4:
        _base(rng, plane, signal, edge)
    return signal


def _sulci(head: Head, plane: Plane, signal: NDArray[np.float32], folds: Field) -> None:
    """Dark furrows along the zero lines of a smooth field, near the surface only."""
    steep = np.hypot(*np.gradient(folds)) / np.float32(plane.pixel) + np.float32(1e-3)
    width = 0.02 * head.atrophy * np.clip(1.25 - plane.surface / 0.2, 0, 1)
    furrow = soft(width - np.abs(folds) / steep, 0.03) * (plane.surface > 0)
    _paint(signal, (0.75 * np.asarray(furrow, np.float32), FLUID))


def _midline(rng: np.random.Generator, plane: Plane, signal: NDArray[np.float32], edge: float) -> None:
    """Fissure between the hemispheres, falx and sagittal sinus, which takes up contrast agent."""
    away = np.abs(plane.x + 0.012 * noise(rng, 6, plane.x.shape[0]))
    reach = np.abs(plane.y) - (0.0 if plane.level > 0.7 else 0.45)
    inside = soft(plane.surface, edge) * soft(reach, 0.1)
    sinus = ellipse(plane.x, plane.surface, at=(0, 0.0), axes=(0.06, 0.05)) * (plane.y > 0)
    _paint(
        signal,
        (0.7 * soft(0.014 - away, 0.03) * inside, FLUID),
        (soft(np.asarray(sinus, np.float32), 0.03) * (plane.y > 0), VESSEL),
    )


def _ventricles(rng: np.random.Generator, head: Head, plane: Plane, signal: NDArray[np.float32]) -> None:
    """Lateral ventricles with bright caps on FLAIR, deep nuclei and the third ventricle."""
    size = head.ventricles * float(np.clip(1.4 - 2.2 * abs(plane.level - 0.58), 0.2, 1))
    away, y = np.abs(plane.x), plane.y
    nuclei = ellipse(away, y, at=(0.27, 0.0), axes=(0.13, 0.24), turn=0.25)
    front = ellipse(away, y, at=(0.11 * size, -0.27), axes=(0.055 * size, 0.2 * size), turn=-0.35)
    back = ellipse(away, y, at=(0.2 * size, 0.3), axes=(0.06 * size, 0.24 * size), turn=-0.45)
    at, axes = ((0.1 * size, 0.0), (0.05 * size, 0.36)) if plane.level > 0.55 else ((0.0, 0.02), (0.03, 0.13))
    body = np.maximum(np.maximum(front, back), ellipse(away, y, at=at, axes=axes))
    body = body + 0.008 * noise(rng, 12, plane.x.shape[0])
    plexus = ellipse(away, y, at=(0.2 * size, 0.32), axes=(0.022, 0.07), turn=-0.45)
    _paint(
        signal,
        (0.8 * soft(nuclei, 0.06), GREY),
        (soft(body + 0.03, 0.04) * np.float32(rng.uniform(0.1, 0.5)), (0.25, 0.42, 0.29)),
        (soft(np.asarray(body, np.float32), 0.03), FLUID),
        (0.7 * soft(plexus, 0.03), (0.25, 0.32, 0.6)),
    )


def _base(rng: np.random.Generator, plane: Plane, signal: NDArray[np.float32], edge: float) -> None:
    """Temporal lobes around the cisterns, brain stem, cerebellum with its folia, orbits with eyes."""
    x, y, away = plane.x, plane.y, np.abs(plane.x)
    wave = 0.02 * noise(rng, 9, x.shape[0])
    cerebellum = np.minimum(ellipse(x, y, at=(0, 0.58), axes=(0.56, 0.36)) + wave, plane.surface)
    folia = 0.5 + 0.5 * np.sin(75 * np.hypot(x, y - 0.3) + 12 * wave)
    front = np.minimum(soft(plane.skin - 0.03, edge), soft(-0.62 - y, 0.04))
    eye = ellipse(away, y, at=(0.38, -0.95), axes=(0.135, 0.135))
    _paint(
        signal,
        (soft(ellipse(x, y, at=(0, 0.02), axes=(0.34, 0.22)) + wave, 0.04), FLUID),
        (soft(ellipse(x, y, at=(0, 0.12), axes=(0.2, 0.17)) + 0.5 * wave, 0.03), WHITE),
        (soft(cerebellum + 0.035, edge), FLUID),
        (soft(cerebellum, edge), GREY),
        (0.25 * soft(cerebellum - 0.03, 0.05) * folia, FLUID),
        (0.7 * soft(cerebellum - 0.14, 0.1), WHITE),
        (soft(ellipse(x, y, at=(0, 0.36), axes=(0.08, 0.06)), 0.03), FLUID),
        (soft(ellipse(x, y, at=(0, -0.85), axes=(0.15, 0.3)), 0.04) * front, (0.05, 0.06, 0.1)),
        (soft(ellipse(away, y, at=(0.38, -0.86), axes=(0.24, 0.27)), 0.03) * front, FAT),
        (soft(eye, 0.02) * front, MUSCLE),
        (soft(eye - 0.015, 0.02) * front, FLUID),
    )


def _add_lesion(rng: np.random.Generator, head: Head, plane: Plane, signal: NDArray[np.float32]) -> Field:
    """Draw the lesion's section at this level and return its signed distance, positive inside the truth."""
    x, y, level, radius = head.lesion
    away = abs(plane.level - level) / 0.55
    if away >= radius:
        return np.full_like(plane.x, -1)
    section = float(np.sqrt(radius**2 - away**2))
    size_px = plane.x.shape[0]
    edge_noise = 0.4 * section * octaves(rng, 7, 3, size_px)
    axes = (section * rng.uniform(0.8, 1.1), section * rng.uniform(0.8, 1.25))
    lesion = ellipse(plane.x, plane.y, at=(x, y), axes=axes, turn=rng.uniform(0, 3)) + edge_noise
    # Oedema follows white matter: it stops short of the cortex and does not cross the midline.
    falx = plane.x * np.float32(np.sign(x)) + 0.03 * noise(rng, 7, size_px)
    lesion = np.minimum(np.minimum(lesion, plane.surface - 0.05 + 0.03 * noise(rng, 12, size_px)), falx)
    lesion = _without_islands(lesion.astype(np.float32))
    shade = 0.85 + 0.2 * octaves(rng, 8, 2, size_px)
    _paint(signal, (soft(lesion, 0.09) * np.clip(shade, 0.3, 1), TUMOUR))
    if head.enhancing:
        inner = lesion - section * (1 - head.enhancing) * 0.8
        rim = soft(0.03 - np.abs(inner - 0.03), 0.03) * np.clip(0.8 + 0.3 * noise(rng, 10, size_px), 0, 1)
        _paint(signal, (soft(inner - 0.05, 0.04), CORE), (np.asarray(rim, np.float32), RIM))
    return lesion


def _without_islands(distance: Field) -> Field:
    """Push down all but the largest component, so that the truth is one lesion."""
    inside = distance > 0
    return np.where(inside & ~largest_component(inside), np.float32(-0.05), distance)


def _record(rng: np.random.Generator, head: Head, signal: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Coil sensitivity, blur of the voxels, Rician noise, gains."""
    # Grain takes as many numbers as there are pixels: a stream of its own keeps the rest equal at every size.
    grain_rng, size_px = rng.spawn(1)[0], signal.shape[0]
    for channel, gain in enumerate(head.gains):
        bias = 1 + 0.07 * noise(rng, 2, size_px)
        texture = 1 + 0.035 * octaves(rng, 24, 3, size_px)
        blurred = scipy.ndimage.gaussian_filter(signal[..., channel] * texture, 0.0026 * size_px)
        voxels = blurred * bias * np.float32(gain)
        grain = np.float32(0.014 * min(1.0, size_px / 256))
        real, imaginary = grain_rng.standard_normal((2, size_px, size_px), dtype=np.float32) * grain
        signal[..., channel] = np.hypot(voxels + real, imaginary)
    return to_uint8(signal)
