"""Chest X-rays: attenuation along parallel rays through a drawn chest, and a detector that records it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from xferlab.phantoms import skeleton, torso
from xferlab.phantoms.anatomy import (
    Grid,
    Habitus,
    LungField,
    draw_habitus,
    draw_lungs,
    lung_air,
    lung_field,
    make_grid,
)
from xferlab.phantoms.fields import (
    Field,
    generator,
    largest_component,
    noise,
    octaves,
    soft,
    to_uint8,
    wide_blur,
)
from xferlab.phantoms.opacities import ground_glass, lobar
from xferlab.phantoms.phantom import CHEST_LABELS, Phantom
from xferlab.phantoms.vessels import draw_segments, grow_tree

PATHOLOGIES = ("covid19", "normal", "pathological")
_DISEASES = {"covid19": ground_glass, "pathological": lobar}
"""What gives the share of the air that disease has taken, 0..0.97; `normal` lungs are clear."""

# Attenuation relative to the soft tissue of an average adult's trunk.
LUNG, BONE, SPINE, VESSEL, HEART, GAS, AIRWAY = 0.66, 0.13, 0.22, 0.15, 0.15, 0.3, 0.2


@dataclass(frozen=True)
class Chest:
    """A patient's fields before disease and detector.

    Attributes:
        grid: Patient coordinates.
        habitus: Build.
        lungs: Right and left.
        air: Thickness of air, 0..1.
        vessels: Thickness of vessels, 0..1.
        solid: Attenuation of everything but lung.
        labels: As `CHEST_LABELS`.
    """

    grid: Grid
    habitus: Habitus
    lungs: tuple[LungField, LungField]
    air: Field
    vessels: Field
    solid: Field
    labels: NDArray[np.uint8]


def chest_xray(*, seed: int, index: int, pathology: str, size_px: int = 256) -> Phantom:
    """Draw one frontal chest X-ray; every index is a patient of its own.

    Args:
        seed: Of the data set.
        index: Of the patient, from 0. The anatomy is the same for every pathology.
        pathology: `covid19` (bilateral peripheral ground glass and consolidations), `normal` (clear) or
            `pathological` (lobar opacities, streaks, effusions).
        size_px: Side of the square picture; the picture is the same at every size but for the grain.

    Returns:
        Image uint8 `(size_px, size_px)`, bright where rays are absorbed; labels as `CHEST_LABELS` (bits).
    """
    chest = _draw(generator("phantom", seed, "chest", index), size_px)
    disease = _DISEASES.get(pathology)
    rng = generator("phantom", seed, "chest", index, pathology)
    filled = disease(rng, chest.grid, chest.lungs) if disease else np.zeros_like(chest.grid.x)
    rng = generator("phantom", seed, "chest", index, "detector")
    return Phantom(_expose(rng, chest, _attenuation(chest, filled)), chest.labels)


def _draw(rng: np.random.Generator, size_px: int) -> Chest:
    habitus, shapes = draw_habitus(rng), draw_lungs(rng)
    grid = make_grid(rng, habitus, size_px)
    lungs = (lung_field(rng, shapes[0], grid), lung_field(rng, shapes[1], grid))
    floor_v = (shapes[0].dome_v + shapes[1].dome_v) / 2
    heart = torso.heart(rng, grid, habitus, floor_v)
    trunk = np.maximum(heart, torso.mediastinum(rng, grid, habitus))
    blocked = 0.88 * soft(trunk, 0.035) * np.clip(0.45 + 2.2 * trunk, 0, 1)
    air = (lung_air(lungs[0], grid.pixel) + lung_air(lungs[1], grid.pixel)) * (1 - blocked)
    collar = skeleton.clavicles(rng, grid, habitus)
    body = torso.body(rng, grid, habitus)
    bone = BONE * skeleton.ribs(rng, grid, habitus, shapes) + SPINE * skeleton.spine(rng, grid)
    bone += 1.5 * BONE * soft(collar, 0.025) * (0.75 + 0.25 * np.clip(1 - collar / 0.05, 0, 1))
    bone += BONE * skeleton.shoulders(rng, grid, habitus)
    # Scatter from thick tissue takes contrast from bone that lies over no lung.
    bone *= 0.45 + 0.55 * np.clip(3 * air, 0, 1)
    tissue = habitus.bulk * body * (1 + 0.035 * octaves(rng, 5, 3, size_px)) + torso.breasts(
        rng, grid, habitus
    )
    tissue += HEART * np.clip(trunk / 0.35, 0, 1) * (1 - blocked * 0.3)
    tissue -= AIRWAY * torso.airways(rng, grid) + GAS * torso.gas(rng, grid, floor_v)
    solid = tissue + habitus.bone * bone * np.clip(body * 4, 0, 1)
    tree = [
        np.concatenate(pair)
        for pair in zip(*(grow_tree(rng, s, aspect=grid.aspect) for s in (-1, 1)), strict=True)
    ]
    vessels = draw_segments(tree, grid, habitus)
    labels = _labels(lungs, heart, collar)
    return Chest(grid, habitus, lungs, air.astype(np.float32), vessels, solid.astype(np.float32), labels)


def _attenuation(chest: Chest, filled: Field) -> Field:
    """Attenuation along the ray; vessels drown in filled lung, in which air-filled bronchi show instead."""
    air = chest.air * (1 - filled * (1 - 0.25 * chest.vessels))
    vessels = VESSEL * chest.vessels * chest.air * (1 - filled)
    return np.asarray(chest.solid - LUNG * air + vessels, np.float32)


def _expose(rng: np.random.Generator, chest: Chest, attenuation: Field) -> NDArray[np.uint8]:
    """Scatter, film curve, edge enhancement, grain, collimation and side marker of a fixed device."""
    # Grain takes as many numbers as there are pixels: a stream of its own keeps the rest equal at every size.
    grain_rng, size_px = rng.spawn(1)[0], chest.grid.size_px
    low, high = rng.uniform(0.02, 0.2), rng.uniform(1.05, 1.42)
    gamma, enhance = rng.uniform(0.75, 1.15), rng.uniform(0.1, 0.7)
    grain, veil = rng.uniform(0.004, 0.014), rng.uniform(0, 0.22)
    scattered = (1 - veil) * attenuation + veil * wide_blur(attenuation, 0.25)
    structure = noise(rng, 48, size_px) * 0.6 + noise(rng, 96, size_px) * 0.5
    detail = scattered - wide_blur(scattered, 0.06) + 0.8 * (scattered - wide_blur(scattered, 0.015))
    film = scattered + enhance * detail + 0.013 * structure * np.clip(attenuation * 3, 0, 1)
    film = (np.clip((film - low) / (high - low), 0, None)).astype(np.float32)
    film = film ** np.float32(gamma)
    knee = 0.75
    film = np.where(film > knee, knee + (1 - knee) * np.tanh((film - knee) / (1 - knee)), film)
    if rng.random() < 0.4:
        film = film * rng.uniform(0.5, 0.85) + rng.uniform(0.02, 0.14)
    film = scipy.ndimage.gaussian_filter(film, 0.0014 * size_px)
    sampled = grain * min(1.0, size_px / 256)
    film += sampled * grain_rng.standard_normal(film.shape, dtype=np.float32)
    return _finish(rng, chest, film)


def _finish(rng: np.random.Generator, chest: Chest, film: Field) -> NDArray[np.uint8]:
    """Cover the margins by shutters at times, write the side, and round to 8 bits."""
    size_px = film.shape[0]
    if rng.random() < 0.25:
        frame = chest.habitus.frame
        free = np.clip([frame[0], 1 - frame[1], frame[2], 1 - frame[3]], 0.004, None)
        left, right, top, bottom = np.rint(free * rng.uniform(0, 0.7, 4) * size_px).astype(int)
        film[:top], film[size_px - bottom :] = 0.01, 0.01
        film[:, :left], film[:, size_px - right :] = 0.01, 0.01
    picture = Image.fromarray(to_uint8(film))
    if rng.random() < 0.75:
        on_left = bool(rng.random() < 0.75)
        at = (rng.uniform(0.02, 0.08) if on_left else rng.uniform(0.9, 0.95), rng.uniform(0.03, 0.3))
        font = ImageFont.load_default(size=max(6.0, float(rng.uniform(0.05, 0.1)) * size_px))
        letter = "R" if on_left else "L"
        ImageDraw.Draw(picture).text((at[0] * size_px, at[1] * size_px), letter, fill=245, font=font)
    return np.array(picture)


def _labels(lungs: tuple[LungField, LungField], heart: Field, bones: Field) -> NDArray[np.uint8]:
    """Returns the labels; `heart` and `bones` are the signed distances to the heart and the clavicles."""
    labels = np.zeros(heart.shape, np.uint8)
    for name, lung in zip(("right_lung", "left_lung"), lungs, strict=True):
        labels[largest_component((lung.inside > 0) & (labels == 0))] |= CHEST_LABELS[name]
    labels[heart > 0] |= CHEST_LABELS["heart"]
    labels[bones > 0] |= CHEST_LABELS["clavicles"]
    return labels
