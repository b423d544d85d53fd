"""Distances between the boundaries of prediction and target.

A boundary pixel is a pixel of the mask with a 4-neighbour outside it; beyond the image is outside. Distances
are Euclidean, between pixel centres. Empty policy: two empty masks agree perfectly; one empty mask is as far
as the image's diagonal, `hypot(H, W)`, and agrees nowhere. Every image counts.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xferlab.metrics.image import ScoredImage, box_of
from xferlab.metrics.metric import ImageMetric

Mask = NDArray[np.bool_]

TOLERANCE_PX = 2.0
SPARSE = 6
"""Pixels for each boundary pixel, from which a search of the nearest is faster than a distance transform."""


SurfaceDistances = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Distance of every boundary pixel to the other mask's boundary: `(B,)` of the prediction's, `(C,)` of the
target's. Both masks have pixels."""


class Boundary(NamedTuple):
    """The boundary of a mask that has pixels.

    Attributes:
        edge: Its pixels, bool (h, w), in a box that holds both masks.
        places: Row and column of each, (B, 2), in the order of rows.
    """

    edge: Mask
    places: NDArray[np.intp]


@partial(
    ImageMetric,
    name="HD95_px",
    label="HD95",
    unit="px",
    better="lower",
    source="Huttenlocher et al. 1993, with the 95th percentile for the maximum",
    prominence="main",
    definition="Larger of the two directed 95th percentiles of the distance between boundary pixels.",
    undefined="0 if both masks are empty, the image diagonal if one is.",
)
def hd95_px(image: ScoredImage) -> float:
    """HD95 in pixels, in [0, diagonal]: the larger directed 95th percentile, linearly interpolated."""
    return _hd95(image, image.once(_distances_px), (1.0, 1.0))


@partial(
    ImageMetric,
    name="HD95_mm",
    label="HD95",
    unit="mm",
    better="lower",
    source="as HD95_px",
    prominence="headline",
    definition="HD95_px with distances in millimetres, by the spacing of rows and of columns.",
    undefined="0 if both masks are empty, the image diagonal if one is; NaN if the spacing is unknown.",
)
def hd95_mm(image: ScoredImage) -> float:
    """HD95 in millimetres by the image's spacing; NaN where it is unknown."""
    if image.spacing_mm is None:
        return float("nan")
    return _hd95(image, _distances(image.once(_boundaries), image.spacing_mm), image.spacing_mm)


@partial(
    ImageMetric,
    name="NSD_2px",
    label="NSD at 2 px",
    better="higher",
    source="Nikolov et al. 2018 (surface Dice), on pixels",
    prominence="headline",
    definition="Fraction of both masks' boundary pixels within 2 px of the other's boundary.",
    undefined="1 if both masks are empty, 0 if one is.",
)
def nsd_2px(image: ScoredImage) -> float:
    """Normalised surface Dice in [0, 1]: fraction of both boundaries within `TOLERANCE_PX` of the other."""
    distances = image.once(_distances_px)
    if distances is None:
        return float(_both_empty(image))
    return float(np.mean(np.concatenate(distances) <= TOLERANCE_PX))


def surface_distances(
    prediction: Mask, target: Mask, spacing: tuple[float, float]
) -> SurfaceDistances | None:
    """Returns the distances between the boundaries of two bool masks `(H, W)`; None if one is empty.

    Args:
        prediction: One mask.
        target: The other.
        spacing: Length of a step to the next row and to the next column, in the unit of the result.
    """
    return _distances(_boundaries_of(prediction, target), spacing)


def _boundaries_of(prediction: Mask, target: Mask) -> tuple[Boundary, Boundary] | None:
    """Returns the boundaries of two masks; None if one is empty."""
    if not prediction.any() or not target.any():
        return None
    # All boundary pixels lie in the box: distances within it are exact, and the transform sees fewer pixels.
    box = box_of(prediction, target)
    edge, target_edge = boundary(prediction[box]), boundary(target[box])
    return Boundary(edge, _places(edge)), Boundary(target_edge, _places(target_edge))


def _places(edge: Mask) -> NDArray[np.intp]:
    """What `np.argwhere` returns, several times faster."""
    return np.stack(np.divmod(np.flatnonzero(edge), edge.shape[1]), axis=1)


def _distances(
    boundaries: tuple[Boundary, Boundary] | None, spacing: tuple[float, float]
) -> SurfaceDistances | None:
    from scipy.ndimage import distance_transform_edt  # slow to import, and plans only need declarations

    if boundaries is None:
        return None
    own, other = boundaries
    if SPARSE * (len(own.places) + len(other.places)) < own.edge.size:
        return _to_nearest(own, other, spacing), _to_nearest(other, own, spacing)
    to_target = distance_transform_edt(~other.edge, sampling=spacing)
    to_prediction = distance_transform_edt(~own.edge, sampling=spacing)
    return to_target[own.edge], to_prediction[other.edge]


def _to_nearest(own: Boundary, other: Boundary, spacing: tuple[float, float]) -> NDArray[np.float64]:
    """Returns the distance of each place, (row, column), to the nearest other one: bits of the transform."""
    from scipy.spatial import cKDTree

    distances, steps = np.zeros(len(own.places)), np.array(spacing)
    apart = ~other.edge[own.edge]
    places = own.places[apart]
    _, nearest = cKDTree(other.places * steps).query(places * steps)
    distances[apart] = np.sqrt((((places - other.places[nearest]) * steps) ** 2).sum(axis=1))
    return distances


def boundary(mask: Mask) -> Mask:
    """Returns the pixels of a bool mask `(H, W)` that have a 4-neighbour outside it or outside the array."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _boundaries(image: ScoredImage) -> tuple[Boundary, Boundary] | None:
    return _boundaries_of(image.prediction, image.target)


def _distances_px(image: ScoredImage) -> SurfaceDistances | None:
    return _distances(image.once(_boundaries), (1.0, 1.0))


def _hd95(image: ScoredImage, distances: SurfaceDistances | None, spacing: tuple[float, float]) -> float:
    if distances is None:
        height, width = image.target.shape
        return 0.0 if _both_empty(image) else math.hypot(height * spacing[0], width * spacing[1])
    return float(max(np.percentile(directed, 95) for directed in distances))


def _both_empty(image: ScoredImage) -> bool:
    return not image.prediction.any() and not image.target.any()
