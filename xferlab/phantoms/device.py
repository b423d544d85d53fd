"""A portable device, simulated on top of any chest X-ray: what changes when the machine comes to the bed.

Works on phantoms and on real images alike. Marking a result as simulated is the caller's business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xferlab.errors import UsageError, suggest
from xferlab.phantoms.foreign_objects import DRAWERS, Sheet

DEVICE_VERSION = 1
"""Raised when any pixel changes."""

FOREIGN_OBJECTS = tuple(DRAWERS)

Field = NDArray[np.floating[Any]]


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
    image: NDArray[np.uint8], labels: NDArray[Any], *, seed: int, key: str, strength: float = 1.0
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Make an image look as if a portable device had taken it.

    In order: tilt and rotation, cables and electrodes, scatter with loss of contrast, grid cut-off, blur,
    quantum noise, collimation edges, text markers.

    Args:
        image: uint8, `(H, W)` or `(H, W, 3)`, bright where rays are absorbed.
        labels: `(H, W)`, any values; moved with the image, nearest neighbour, 0 where nothing was seen.
        seed: Of the simulation.
        key: Of the image: the same seed and key give the same device.
        strength: 0 returns copies of both; 1 is a usual bedside image; beyond 1 is worse.

    Returns:
        Image and labels, shapes and dtypes as given.

    Raises:
        UsageError: If the image is not uint8 `(H, W)` or `(H, W, 3)`, the labels do not fit it, or the
            strength is negative or not finite.
    """
    _check(image)
    if labels.shape != image.shape[:2]:
        raise UsageError(
            f"simulate_portable: the labels have shape {labels.shape}, the image {image.shape}; "
            f"labels of shape {image.shape[:2]} are needed."
        )
    if not (np.isfinite(strength) and strength >= 0):
        raise UsageError(
            f"simulate_portable: strength {strength} was asked for; it has to be 0 or more, and finite."
        )
    if strength == 0:
        return image.copy(), labels.copy()
    pose = _draw_pose(_generator(seed, key, "pose"), strength)
    moved, moved_labels = _move(image, labels, pose)
    film = moved.astype(np.float32) / np.float32(255)
    film = _lay_on(
        film, _generator(seed, key, "objects"), _draw_kinds(_generator(seed, key, "kinds"), strength)
    )
    film = _expose(film, _generator(seed, key, "exposure"), _generator(seed, key, "noise"), strength)
    film = _collimate(film, _generator(seed, key, "collimation"), strength)
    rng = _generator(seed, key, "marker")
    if rng.random() < min(1.0, 0.7 * strength):
        film = _lay_on(film, rng, ["marker"])
    return _to_uint8(film), moved_labels


def add_foreign_objects(
    image: NDArray[np.uint8], *, seed: int, key: str, kinds: Sequence[str]
) -> NDArray[np.uint8]:
    """Lay foreign objects over an image; the labels of the image stay what they are.

    Args:
        image: uint8, `(H, W)` or `(H, W, 3)`.
        seed: Of the simulation.
        key: Of the image.
        kinds: Any of `cable`, `electrode`, `marker`, `implant`, each as often as it is named.

    Returns:
        A new image; equal to the given one if no kind is named.

    Raises:
        UsageError: If a kind is unknown or the image is not uint8 `(H, W)` or `(H, W, 3)`.
    """
    _check(image)
    for kind in kinds:
        if kind not in DRAWERS:
            raise UsageError(
                f"add_foreign_objects: kind {kind!r} is unknown; accepted: {', '.join(FOREIGN_OBJECTS)}."
                f"{suggest(kind, FOREIGN_OBJECTS)}"
            )
    if not kinds:
        return image.copy()
    film = image.astype(np.float32) / np.float32(255)
    return _to_uint8(_lay_on(film, _generator(seed, key, "foreign"), kinds))


def _check(image: NDArray[np.uint8]) -> None:
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise UsageError(
            f"device: the image is {image.dtype} of shape {image.shape}; "
            "uint8 of shape (H, W) or (H, W, 3) is needed."
        )


def _generator(seed: int, key: str, purpose: str) -> np.random.Generator:
    """One stream per purpose, so that strength changes amounts but not what happens."""
    entropy = int.from_bytes(hashlib.sha256(f"device/{purpose}/{seed}/{key}".encode()).digest(), "big")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def _to_uint8(film: Field) -> NDArray[np.uint8]:
    return np.clip(np.rint(film * 255), 0, 255).astype(np.uint8)


def _draw_pose(rng: np.random.Generator, strength: float) -> Pose:
    bounded = min(strength, 2.0)
    turn = np.deg2rad(rng.normal(0, 4.0)) * bounded
    scale = 1 + np.clip(rng.normal(0.03, 0.05, 2), -0.1, 0.14) * bounded
    shift = np.clip(rng.normal(0, 0.03, 2), -0.07, 0.07) * bounded
    keystone = rng.uniform(-0.12, 0.12, 2) * bounded
    return Pose(float(turn), (scale[0], scale[1]), (shift[0], shift[1]), (keystone[0], keystone[1]))


def _move(
    image: NDArray[np.uint8], labels: NDArray[Any], pose: Pose
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Resample image (linear) and labels (nearest) through the same projective map."""
    height, width = labels.shape
    rows = ((np.arange(height) + 0.5) / height - 0.5 - pose.shift[0])[:, None]
    columns = ((np.arange(width) + 0.5) / width - 0.5 - pose.shift[1])[None, :]
    depth = 1 + pose.keystone[0] * rows + pose.keystone[1] * columns
    cos, sin = np.cos(pose.turn), np.sin(pose.turn)
    aspect = width / height
    source_rows = (rows * cos - columns * sin * aspect) / (pose.scale[0] * depth)
    source_columns = (columns * cos + rows * sin / aspect) / (pose.scale[1] * depth)
    where = np.stack([(source_rows + 0.5) * height - 0.5, (source_columns + 0.5) * width - 0.5])
    moved = np.empty_like(image)
    for channel in np.ndindex(image.shape[2:]):
        chosen = (..., *channel)
        moved[chosen] = ndimage.map_coordinates(image[chosen], where, order=1, mode="constant", cval=0)
    return moved, ndimage.map_coordinates(labels, where, order=0, mode="constant", cval=0)


def _draw_kinds(rng: np.random.Generator, strength: float) -> list[str]:
    kinds = ["cable"] * int(rng.binomial(4, min(0.9, 0.4 * strength)))
    kinds += ["electrode"] * int(rng.binomial(4, min(0.9, 0.3 * strength)))
    if rng.random() < 0.07 * strength:
        kinds.append("implant")
    return kinds


def _spread(field: Field, film: Field) -> Field:
    """Give a field `(H, W)` the channel axis of the film, if that has one."""
    return field[..., None] if film.ndim == 3 else field


def _lay_on(film: Field, rng: np.random.Generator, kinds: Sequence[str]) -> Field:
    """Absorb rays on top of the patient: dense things go towards white, thin ones add a little."""
    if not kinds:
        return film
    sheet = Sheet(film.shape[0], film.shape[1])
    for kind in kinds:
        DRAWERS[kind](rng, sheet)
    density = _spread(sheet.density(), film)
    return np.asarray(film + density * (np.maximum(film, 0.97) - film) * (0.35 + 0.65 * density), np.float32)


def _expose(film: Field, rng: np.random.Generator, grain: np.random.Generator, strength: float) -> Field:
    """Scatter, lower contrast, grid cut-off, blur and quantum noise, in this order."""
    height, width = film.shape[:2]
    side = min(height, width)
    flat = film.ndim == 3
    veil = min(0.75, rng.uniform(0.08, 0.32) * strength)
    level, contrast = rng.uniform(0.35, 0.65), 1 - min(0.75, rng.uniform(0.0, 0.32) * strength)
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.4) * strength
    sigma = rng.uniform(0.001, 0.0035) * strength * side
    deviation = rng.uniform(0.007, 0.028) * strength

    size = [max(1, round(0.2 * height)), max(1, round(0.2 * width))] + [1] * flat
    scatter = ndimage.uniform_filter(ndimage.uniform_filter(film, size, mode="nearest"), size, mode="nearest")
    film = film * (1 - veil) + scatter * veil
    film = level + (film - level) * np.float32(contrast)
    down, across = np.linspace(-0.5, 0.5, height)[:, None], np.linspace(-0.5, 0.5, width)[None, :]
    cut_off = slope * (np.cos(angle) * across + np.sin(angle) * down) ** 2 * 1.5
    cut_off = cut_off + 0.5 * slope * (np.cos(angle) * across + np.sin(angle) * down)
    film = film + _spread(cut_off.astype(np.float32), film)
    film = ndimage.gaussian_filter(film, [sigma, sigma] + [0] * flat)
    # Fewer quanta arrive where more are absorbed, so bright parts are noisier.
    quanta = grain.standard_normal((height, width), dtype=np.float32)
    amount = deviation * (0.35 + 0.9 * np.clip(film, 0, 1))
    return np.asarray(film + amount * _spread(quanta, film), np.float32)


def _collimate(film: Field, rng: np.random.Generator, strength: float) -> Field:
    """Close shutters over up to a few percent of some edges; they may stand oblique."""
    height, width = film.shape[:2]
    rows, columns = np.arange(height)[:, None] / height, np.arange(width)[None, :] / width
    closed = np.zeros((height, width), bool)
    for edge in (rows, 1 - rows, columns, 1 - columns):
        across = columns if edge.shape[1] == 1 else rows
        chosen, depth, oblique = rng.random(), rng.uniform(0.01, 0.05), rng.normal(0, 0.03)
        if chosen < 0.35:
            closed |= edge < (depth + oblique * (across - 0.5)) * min(strength, 2.0)
    return np.where(_spread(closed.astype(np.float32), film) > 0, np.float32(0.02), film)
