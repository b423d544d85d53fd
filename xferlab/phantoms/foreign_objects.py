"""Foreign objects laid over images: cables, electrodes, pacemakers, and letters on the film."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from xferlab.parallel import for_each
from xferlab.phantoms.fields import Field, generator, to_uint8

OBJECTS_VERSION = 1
"""Raised when any pixel changes; part of the identity of evaluations with objects."""

# Shapes are drawn this many times as large as the picture and averaged down, for smooth edges.
OVERSAMPLING = 2
MARKERS = ("AP", "SUPINE", "PORTABLE", "AP SUPINE", "L", "R", "ERECT", "MOBILE")


class Sheet:
    """A transparent sheet over a picture, on which objects are drawn in shares of its sides.

    Attributes:
        height_px: Rows of the picture.
        width_px: Columns of the picture.
    """

    def __init__(self, height_px: int, width_px: int):
        self.height_px, self.width_px = height_px, width_px
        self._canvas = Image.new("L", (width_px * OVERSAMPLING, height_px * OVERSAMPLING), 0)
        self._pen = ImageDraw.Draw(self._canvas)

    @property
    def _unit(self) -> float:
        return float(min(self._canvas.size))

    def line(self, points: NDArray[np.float64], *, width: float, shade: int) -> None:
        """Draw a curve through points `(n, 2)`, x and y as shares of the sides."""
        scaled = points * np.asarray(self._canvas.size)
        pixels = width * self._unit
        ink = int(shade * min(1.0, pixels))
        self._pen.line(
            [tuple(point) for point in scaled.tolist()], fill=ink, width=max(1, round(pixels)), joint="curve"
        )

    def disc(self, at: tuple[float, float], *, radius: float, shade: int, stretch: float = 1.0) -> None:
        """Draw a filled ellipse; `radius` is a share of the shorter side."""
        x, y = at[0] * self._canvas.width, at[1] * self._canvas.height
        across, down = radius * self._unit, radius * self._unit * stretch
        self._pen.ellipse((x - across, y - down, x + across, y + down), fill=shade)

    def text(self, at: tuple[float, float], letters: str, *, height: float) -> None:
        """Write with the default font; `height` is a share of the shorter side."""
        font = ImageFont.load_default(size=max(6.0, height * self._unit))
        place = (at[0] * self._canvas.width, at[1] * self._canvas.height)
        self._pen.text(place, letters, fill=255, font=font)

    def density(self) -> Field:
        """Return what was drawn, `(height_px, width_px)` float32, 0 clear to 1 opaque."""
        soft = self._canvas.filter(ImageFilter.BoxBlur(0.5 + self._unit / 1500))
        small = soft.resize((self.width_px, self.height_px), Image.Resampling.BOX)
        return np.asarray(small, np.float32) / np.float32(255)


def _bezier(corners: NDArray[np.float64], count: int = 48) -> NDArray[np.float64]:
    """Points `(count, 2)` of the cubic Bezier curve of four corners `(4, 2)`."""
    t = np.linspace(0, 1, count)[:, None]
    weights = np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3], axis=1)
    return np.asarray(weights @ corners)


def draw_cable(rng: np.random.Generator, sheet: Sheet) -> None:
    """Lead or tube: a long soft curve from an edge, sometimes with a dense core."""
    start = np.array([rng.uniform(0, 1), rng.choice([0.0, 1.0])])
    if rng.random() < 0.4:
        start = start[::-1]
    end = rng.uniform(0.15, 0.85, 2)
    between = rng.uniform(0.0, 1.0, (2, 2))
    curve = _bezier(np.stack([start, between[0], between[1], end]))
    width = rng.uniform(0.004, 0.012)
    sheet.line(curve, width=width, shade=int(rng.integers(60, 130)))
    if rng.random() < 0.6:
        sheet.line(curve, width=width * 0.35, shade=int(rng.integers(120, 220)))


def draw_electrode(rng: np.random.Generator, sheet: Sheet) -> None:
    """Sticky pad with a metal snap, and the wire that leaves it."""
    at = (float(rng.uniform(0.15, 0.85)), float(rng.uniform(0.15, 0.85)))
    radius = rng.uniform(0.016, 0.028)
    away = np.array([at[0] + rng.uniform(-0.5, 0.5), rng.choice([-0.05, 1.05])])
    corners = np.stack([at, at + rng.uniform(-0.2, 0.2, 2), away + rng.uniform(-0.15, 0.15, 2), away])
    sheet.line(_bezier(corners), width=0.004, shade=150)
    sheet.disc(at, radius=radius, shade=70)
    sheet.disc(at, radius=radius * 0.55, shade=235)
    sheet.disc((at[0] + rng.uniform(-0.004, 0.004), at[1]), radius=radius * 0.25, shade=140)


def draw_marker(rng: np.random.Generator, sheet: Sheet) -> None:
    """Lead letters in a corner of the film."""
    letters = str(rng.choice(MARKERS))
    height = rng.uniform(0.035, 0.065)
    across = rng.choice([rng.uniform(0.02, 0.1), rng.uniform(0.72, 0.85)])
    down = rng.choice([rng.uniform(0.02, 0.15), rng.uniform(0.82, 0.92)], p=[0.8, 0.2])
    sheet.text((float(across), float(down)), letters, height=float(height))


def draw_implant(rng: np.random.Generator, sheet: Sheet) -> None:
    """Pacemaker below a collar bone with its lead to the heart."""
    on_right = rng.random() < 0.75
    at = (
        float(rng.uniform(0.74, 0.84) if on_right else rng.uniform(0.16, 0.26)),
        float(rng.uniform(0.2, 0.32)),
    )
    radius = float(rng.uniform(0.05, 0.068))
    heart = np.array([rng.uniform(0.52, 0.62), rng.uniform(0.6, 0.75)])
    vein = np.array([0.5, rng.uniform(0.15, 0.22)])
    below = vein + np.array([rng.uniform(-0.1, 0.0), 0.25])
    corners = np.stack([np.asarray(at), vein, below, heart])
    sheet.line(_bezier(corners), width=0.007, shade=220)
    sheet.disc((float(heart[0]), float(heart[1])), radius=0.009, shade=255)
    sheet.disc(at, radius=radius, shade=215, stretch=0.85)
    sheet.disc((at[0] - 0.1 * radius, at[1] + 0.2 * radius), radius=radius * 0.6, shade=255, stretch=0.6)
    sheet.disc((at[0], at[1] - 0.62 * radius), radius=radius * 0.35, shade=150, stretch=0.4)


DRAWERS: dict[str, Callable[[np.random.Generator, Sheet], None]] = {
    "cable": draw_cable,
    "electrode": draw_electrode,
    "marker": draw_marker,
    "implant": draw_implant,
}


def lay_on(film: Field, rng: np.random.Generator, kinds: Sequence[str]) -> Field:
    """Absorb rays on top of the patient: dense things go towards white, thin ones add a little.

    Args:
        film: `(H, W)` or `(H, W, 3)`, 0..1.
        rng: Decides where and how large.
        kinds: Keys of `DRAWERS`, in the order in which they are laid on.
    """
    if not kinds:
        return film
    sheet = Sheet(film.shape[0], film.shape[1])
    for kind in kinds:
        DRAWERS[kind](rng, sheet)
    density = sheet.density() if film.ndim == 2 else sheet.density()[..., None]
    return np.asarray(film + density * (np.maximum(film, 0.97) - film) * (0.35 + 0.65 * density), np.float32)


def with_objects(
    images: NDArray[np.uint8], digests: Sequence[str], kinds: Sequence[str]
) -> NDArray[np.uint8]:
    """Returns images with foreign objects on them; their targets stay what they are.

    Every object depends on its case and kind alone: it lies at the same place, in shares of the sides, at any
    resolution, beside any other kinds, and whichever cases come along. Kinds are laid on in the order of
    `DRAWERS`, whatever their order here.

    Args:
        images: uint8, `(N, C, H, W)`; C is 1 or 3.
        digests: The case of each image.
        kinds: Keys of `DRAWERS` (`cable`, `electrode`, `marker`, `implant`), each as often as it is named.
            None gives a copy.
    """
    counts = Counter(kinds)
    ordered = [(kind, number) for kind in DRAWERS for number in range(counts[kind])]
    laid = np.empty_like(images)

    def put(row: int) -> None:
        picture = images[row, 0] if images.shape[1] == 1 else images[row].transpose(1, 2, 0)
        for kind, number in ordered:
            rng = generator("device", "foreign", 0, f"{digests[row]}/{kind}/{number}")
            picture = to_uint8(lay_on(picture.astype(np.float32) / np.float32(255), rng, [kind]))
        laid[row] = picture if picture.ndim == 2 else picture.transpose(2, 0, 1)

    for_each(range(len(images)), put)
    return laid
