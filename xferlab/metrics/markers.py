"""Markers of a chest X-ray: grey levels of organs and patches, sizes and shapes (oh2020, section III-B).

A marker describes an image and not a network; classes of images are compared by it. Masks are taken as they
are: nothing is cleaned up, so that an island of a mask counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xferlab.errors import DataError, Problem
from xferlab.metrics.metric import OF_WHITE, OH, Metric

Mask = NDArray[np.bool_]
Grey = NDArray[np.uint8]

WHITE = 255
HEART = "heart"
LUNGS = (("left_lung", "right_lung"), ("lungs",), ("lung",))
"""Names of the masks that are the lungs; the first of these that an image has all of."""
_NO_REGION = "NaN where the stage takes no masks"
_NO_PATCHES = "NaN where the stage takes no patches, and where none of the image's is told right."

_marker = partial(Metric, better=None, marker=True)
LUNG_MEAN = _marker(
    name="LUNG_MEAN",
    label="Mean intensity, lungs",
    unit=OF_WHITE,
    source=f"{OH}, section III-B and Table VI",
    definition="Mean grey level inside of the structures that `keep` is about (the lungs), before masking.",
    undefined=f"{_NO_REGION}, or they are empty.",
)
LUNG_SD = _marker(
    name="LUNG_SD",
    label="SD of intensity, lungs",
    unit=OF_WHITE,
    source=f"{OH}, section III-B and Table VII",
    definition="Standard deviation of the grey levels inside of what `keep` is about (the lungs).",
    undefined=f"{_NO_REGION}, or they are empty.",
)
LUNG_AREA = _marker(
    name="LUNG_AREA",
    label="Area, lungs",
    source=f"{OH}, section III-B, names lung morphology; the measure is ours",
    definition="Share of the image that the structures cover which `keep` is about (the lungs).",
    undefined=f"{_NO_REGION}; 0 where they are empty.",
)
LUNG_OUTLINE = _marker(
    name="LUNG_OUTLINE",
    label="Outline, lungs",
    source=f"{OH}, section III-B, names lung morphology; the measure is ours",
    definition=(
        "Length of the contour of what `keep` is about (the lungs), in sides of the image: "
        "Crofton's formula in four directions (Legland et al. 2007)."
    ),
    undefined=f"{_NO_REGION}; 0 where they are empty.",
)
HEART_MEAN = _marker(
    name="HEART_MEAN",
    label="Mean intensity, heart",
    unit=OF_WHITE,
    source=f"{OH}, section V-E and figure 11",
    definition="Mean grey level inside of the heart's mask, before masking.",
    undefined="NaN where the stage takes no mask of the heart, or it is empty.",
)
CTR = _marker(
    name="CTR",
    label="Cardiothoracic ratio",
    source=f"{OH}, section III-B and Table IX; Danzer 1919",
    definition=(
        "Widest extent of the heart in one row of the image, by the widest extent in one row from the outer "
        "edge of one lung to that of the other."
    ),
    undefined="NaN where the stage takes no masks of heart and lungs, or no row has both lungs or the heart.",
)
PATCH_MEAN = _marker(
    name="PATCH_MEAN",
    label="Mean intensity, patches",
    unit=OF_WHITE,
    source=f"{OH}, figure 5 (a)",
    definition=(
        "Mean grey level of a patch without masked pixels, averaged over the image's patches that are told "
        "right (inter-patch intensity)."
    ),
    undefined=_NO_PATCHES,
)
PATCH_SD = _marker(
    name="PATCH_SD",
    label="SD of intensity, patches",
    unit=OF_WHITE,
    source=f"{OH}, figure 5 (b)",
    definition=(
        "Standard deviation of the grey levels of a patch without masked pixels, averaged over the image's "
        "patches that are told right (intra-patch intensity)."
    ),
    undefined=_NO_PATCHES,
)
MARKERS = (LUNG_MEAN, LUNG_SD, LUNG_AREA, LUNG_OUTLINE, HEART_MEAN, CTR, PATCH_MEAN, PATCH_SD)
"""All markers, in the order of tables."""


class Line(NamedTuple):
    """A horizontal line from pixel to pixel; both ends belong to it."""

    row: int
    first: int
    last: int

    @property
    def length(self) -> int:
        """How many pixels it has."""
        return self.last - self.first + 1


class Cardiothoracic(NamedTuple):
    """The two lines that the cardiothoracic ratio is made of: of the heart, and of the thorax."""

    heart: Line
    thorax: Line

    @property
    def ratio(self) -> float:
        """Length of the heart's line by that of the thorax; above 0."""
        return self.heart.length / self.thorax.length


def intensity(image: Grey, inside: Mask) -> tuple[float, float]:
    """Returns mean and standard deviation of the grey levels inside of a mask, in [0, 1]; NaN of no pixel.

    Args:
        image: uint8 (H, W).
        inside: bool (H, W).
    """
    levels = image[inside] / WHITE
    return (float(levels.mean()), float(levels.std())) if levels.size else (math.nan, math.nan)


def area(mask: Mask) -> float:
    """Returns the share of an image that a mask (H, W) covers, in [0, 1]."""
    return float(mask.mean())


def outline(mask: Mask) -> float:
    """Returns the length of the contour of a mask (H, W), in sides of the image; 0 of an empty mask.

    The perimeter by Crofton's formula in four directions (Legland, Kieu, Devaux 2007): pi / 8 times the
    crossings of the contour by rows and columns of pixels, and, by sqrt(2), by both diagonals. The side of an
    image that is not square is sqrt(H W). Of a circle it is right in the limit of large images, of an upright
    square 5 % too short.
    """
    padded = np.pad(mask, 1)
    ends = ((padded[1:], padded[:-1]), (padded[:, 1:], padded[:, :-1]))
    diagonal_ends = ((padded[1:, 1:], padded[:-1, :-1]), (padded[1:, :-1], padded[:-1, 1:]))
    straight, diagonal = (
        sum(int(np.count_nonzero(one != other)) for one, other in pairs) for pairs in (ends, diagonal_ends)
    )
    return math.pi / 8 * (straight + diagonal / math.sqrt(2)) / math.sqrt(mask.size)


def widest(*masks: Mask) -> Line | None:
    """Returns the longest line in one row from the first to the last pixel of some masks (H, W) together.

    Only rows count in which each of the masks has a pixel. Of equally long ones the uppermost; None if there
    is no such row.
    """
    together = np.logical_or.reduce(masks)
    counted = np.logical_and.reduce([mask.any(axis=1) for mask in masks])
    first = together.argmax(axis=1)
    last = together.shape[1] - 1 - together[:, ::-1].argmax(axis=1)
    lengths = np.where(counted, last - first + 1, 0)
    row = int(lengths.argmax())
    return Line(row, int(first[row]), int(last[row])) if lengths[row] else None


def cardiothoracic(masks: Mapping[str, Mask]) -> Cardiothoracic | None:
    """Returns the lines of the cardiothoracic ratio; None where it is undefined (see `CTR`).

    Args:
        masks: bool (H, W) of structures by name: `HEART`, and one of `LUNGS`.
    """
    lungs = next((names for names in LUNGS if set(names) <= set(masks)), None)
    if lungs is None or HEART not in masks:
        return None
    heart, thorax = widest(masks[HEART]), widest(*(masks[name] for name in lungs))
    return Cardiothoracic(heart, thorax) if heart and thorax else None


def markers(image: Grey, masks: Mapping[str, Mask], region: Mask | None) -> dict[str, float]:
    """Returns the markers of a whole image by name, without those of its patches.

    Args:
        image: Grey levels before anything is masked, uint8 (H, W).
        masks: bool (H, W) of each structure that the stage takes, by name.
        region: bool (H, W), what the stage keeps of the image; None where it takes no masks.

    Raises:
        DataError: A mask has another type or shape than bool (H, W).
    """
    _check(image, {**masks, **({} if region is None else {"region": region})})
    values = dict.fromkeys((marker.name for marker in MARKERS[:-2]), math.nan)
    if region is not None:
        mean, deviation = intensity(image, region)
        values |= {LUNG_MEAN.name: mean, LUNG_SD.name: deviation}
        values |= {LUNG_AREA.name: area(region), LUNG_OUTLINE.name: outline(region)}
    if HEART in masks:
        values[HEART_MEAN.name] = intensity(image, masks[HEART])[0]
    if (lines := cardiothoracic(masks)) is not None:
        values[CTR.name] = lines.ratio
    return values


def patch_markers(patches: NDArray[np.floating[Any]] | None, label: int) -> dict[str, float]:
    """Returns the markers of the patches of an image by name.

    Args:
        patches: (K, 4 + C): row and column of the centre, mean and standard deviation of the grey levels in
            [0, 1], probability of each class; None where the stage takes no patches.
        label: The number of the true class: a patch is told right whose most probable class it is.
    """
    names = (PATCH_MEAN.name, PATCH_SD.name)
    if patches is None:
        return dict.fromkeys(names, math.nan)
    right = patches[told_right(patches, label), 2:4].astype(np.float64)
    right = right[~np.isnan(right).any(axis=1)]  # patches of masked pixels alone
    if not len(right):
        return dict.fromkeys(names, math.nan)
    return dict(zip(names, right.mean(axis=0).tolist(), strict=True))


def told_right(patches: NDArray[np.floating[Any]], label: int) -> Mask:
    """Returns which patches, as `patch_markers` takes them, are told right, (K,)."""
    return np.asarray(patches[:, 4:].argmax(axis=1) == label)


def _check(image: Grey, masks: Mapping[str, Mask]) -> None:
    for name, mask in masks.items():
        if mask.dtype != np.bool_ or mask.shape != image.shape:
            raise DataError(
                Problem(f"markers: {name}", f"found {mask.dtype} {mask.shape}; accepted: bool {image.shape}")
            )
