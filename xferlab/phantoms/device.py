"""A portable device, simulated on top of any chest X-ray: what changes when the machine comes to the bed.

Works on phantoms and on real images alike. The caller marks results as simulated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from xferlab.phantoms.fields import Field, generator, to_uint8, wide_blur
from xferlab.phantoms.foreign_objects import lay_on

DEVICE_VERSION = 1
"""Raised when any pixel changes."""


def recipe(name: str) -> dict[str, object]:
    """Return what identifies the simulation `name` within a case digest."""
    return {"name": name, "version": DEVICE_VERSION}


@dataclass(frozen=True)
class Pose:
    """How film and patient lie towards each other.

    Attributes:
        turn: Rotation in radians.
        scale: Magnification, for each axis.
        shift: Of the centre, shares of height and width.
        keystone: Change of magnification from one edge to the other (tilt), for each axis.
    """

    turn: float
    scale: tuple[float, float]
    shift: tuple[float, float]
    keystone: tuple[float, float]


def simulate_portable(
    image: NDArray[np.uint8], targets: NDArray[np.uint8], *, seed: int, key: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Make an image look as if a portable device had taken it.

    In order: tilt and rotation, cables and electrodes, scatter with loss of contrast, grid cut-off, blur,
    quantum noise, collimation edges, text markers.

    Args:
        image: uint8, `(H, W)`, bright where rays are absorbed.
        targets: uint8, `(S, H, W)`; moved with the image, nearest neighbour, 0 where nothing was seen.
        seed: Of the simulation.
        key: Of the image: the same seed and key give the same device.

    Returns:
        Image and targets, shapes and dtypes as given.
    """

    def stream(purpose: str) -> np.random.Generator:
        return generator("device", purpose, seed, key)

    moved, moved_targets = _move(image, targets, _draw_pose(stream("pose")))
    film = moved.astype(np.float32) / np.float32(255)
    film = lay_on(film, stream("objects"), _draw_kinds(stream("kinds")))
    film = _collimate(_expose(film, stream("exposure"), stream("noise")), stream("collimation"))
    rng = stream("marker")
    if rng.random() < 0.7:
        film = lay_on(film, rng, ["marker"])
    return to_uint8(film), moved_targets


def _draw_pose(rng: np.random.Generator) -> Pose:
    turn = np.deg2rad(rng.normal(0, 4.0))
    scale = 1 + np.clip(rng.normal(0.03, 0.05, 2), -0.1, 0.14)
    shift = np.clip(rng.normal(0, 0.03, 2), -0.07, 0.07)
    keystone = rng.uniform(-0.12, 0.12, 2)
    return Pose(float(turn), (scale[0], scale[1]), (shift[0], shift[1]), (keystone[0], keystone[1]))


def _move(
    image: NDArray[np.uint8], targets: NDArray[np.uint8], pose: Pose
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Resample image (linear) and targets (nearest) through the same projective map."""
    height, width = image.shape
    rows = ((np.arange(height) + 0.5) / height - 0.5 - pose.shift[0])[:, None]
    columns = ((np.arange(width) + 0.5) / width - 0.5 - pose.shift[1])[None, :]
    depth = 1 + pose.keystone[0] * rows + pose.keystone[1] * columns
    cos, sin = np.cos(pose.turn), np.sin(pose.turn)
    aspect = width / height
    source_rows = (rows * cos - columns * sin * aspect) / (pose.scale[0] * depth)
    source_columns = (columns * cos + rows * sin / aspect) / (pose.scale[1] * depth)
    where = np.stack([(source_rows + 0.5) * height - 0.5, (source_columns + 0.5) * width - 0.5])
    moved = scipy.ndimage.map_coordinates(image, where, order=1, mode="constant", cval=0)
    moved_targets = np.empty_like(targets)
    for plane, moved_plane in zip(targets, moved_targets, strict=True):
        scipy.ndimage.map_coordinates(plane, where, moved_plane, order=0, mode="constant", cval=0)
    return moved, moved_targets


def _draw_kinds(rng: np.random.Generator) -> list[str]:
    kinds = ["cable"] * int(rng.binomial(4, 0.4)) + ["electrode"] * int(rng.binomial(4, 0.3))
    return [*kinds, "implant"] if rng.random() < 0.07 else kinds


def _expose(film: Field, rng: np.random.Generator, grain: np.random.Generator) -> Field:
    """Scatter, lower contrast, grid cut-off, blur and quantum noise, in this order."""
    height, width = film.shape
    veil = rng.uniform(0.08, 0.32)
    level, contrast = rng.uniform(0.35, 0.65), 1 - rng.uniform(0.0, 0.32)
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.4)
    sigma, deviation = rng.uniform(0.001, 0.0035) * min(height, width), rng.uniform(0.007, 0.028)

    film = film * (1 - veil) + wide_blur(film, 0.2) * veil
    film = level + (film - level) * np.float32(contrast)
    down, across = np.linspace(-0.5, 0.5, height)[:, None], np.linspace(-0.5, 0.5, width)[None, :]
    cut_off = slope * (np.cos(angle) * across + np.sin(angle) * down) ** 2 * 1.5
    cut_off = cut_off + 0.5 * slope * (np.cos(angle) * across + np.sin(angle) * down)
    film = scipy.ndimage.gaussian_filter(film + cut_off.astype(np.float32), sigma)
    # Fewer quanta arrive where more are absorbed, so bright parts are noisier.
    quanta = grain.standard_normal((height, width), dtype=np.float32)
    return np.asarray(film + deviation * (0.35 + 0.9 * np.clip(film, 0, 1)) * quanta, np.float32)


def _collimate(film: Field, rng: np.random.Generator) -> Field:
    """Close shutters over up to a few percent of some edges; they may stand oblique."""
    height, width = film.shape
    rows, columns = np.arange(height)[:, None] / height, np.arange(width)[None, :] / width
    closed = np.zeros((height, width), bool)
    for edge in (rows, 1 - rows, columns, 1 - columns):
        across = columns if edge.shape[1] == 1 else rows
        chosen, depth, oblique = rng.random(), rng.uniform(0.01, 0.05), rng.normal(0, 0.03)
        if chosen < 0.35:
            closed |= edge < depth + oblique * (across - 0.5)
    return np.where(closed, np.float32(0.02), film)
