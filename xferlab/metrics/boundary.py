"""Distances between the boundaries of prediction and target.

A boundary pixel is a pixel of the mask with a 4-neighbour outside it; beyond the image is outside. Distances
are Euclidean, between pixel centres. Empty policy: two empty masks agree perfectly; one empty mask is as far
as the image's diagonal, `hypot(H, W)`, and agrees nowhere. Every image counts.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import NDArray

from xferlab.metrics.image import ScoredImage
from xferlab.metrics.metric import ImageMetric

Mask = NDArray[np.bool_]

TOLERANCE_PX = 2.0
SPARSE = 6
"""Pixels for each boundary pixel, from which a search of the nearest is faster than a distance transform."""


SurfaceDistances = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Distance of every boundary pixel to the other mask's boundary: `(B,)` of the prediction's, `(C,)` of the
target's. Both masks have pixels."""


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
    return _hd95(image, surface_distances(image.prediction, image.target, image.spacing_mm), image.spacing_mm)


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
    from scipy import ndimage  # slow to import, and plans only need declarations

    if not prediction.any() or not target.any():
        return None
    # All boundary pixels lie in the box: distances within it are exact, and the transform sees fewer pixels.
    (box,) = ndimage.find_objects((prediction | target).view(np.uint8))
    edge, target_edge = boundary(prediction[box]), boundary(target[box])
    if SPARSE * (np.count_nonzero(edge) + np.count_nonzero(target_edge)) < edge.size:
        places, target_places = np.argwhere(edge), np.argwhere(target_edge)
        return _to_nearest(places, target_places, spacing), _to_nearest(target_places, places, spacing)
    to_target = ndimage.distance_transform_edt(~target_edge, sampling=spacing)
    to_prediction = ndimage.distance_transform_edt(~edge, sampling=spacing)
    return to_target[edge], to_prediction[target_edge]


def _to_nearest(
    places: NDArray[np.intp], others: NDArray[np.intp], spacing: tuple[float, float]
) -> NDArray[np.float64]:
    """Returns the distance of each place, (row, column), to the nearest other one: bits of the transform."""
    from scipy.spatial import cKDTree

    steps = np.array(spacing)
    _, nearest = cKDTree(others * steps).query(places * steps)
    return np.asarray(np.sqrt((((places - others[nearest]) * steps) ** 2).sum(axis=1)))


def boundary(mask: Mask) -> Mask:
    """Returns the pixels of a bool mask `(H, W)` that have a 4-neighbour outside it or outside the array."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _distances_px(image: ScoredImage) -> SurfaceDistances | None:
    return surface_distances(image.prediction, image.target, (1.0, 1.0))


def _hd95(image: ScoredImage, distances: SurfaceDistances | None, spacing: tuple[float, float]) -> float:
    if distances is None:
        height, width = image.target.shape
        return 0.0 if _both_empty(image) else math.hypot(height * spacing[0], width * spacing[1])
    return float(max(np.percentile(directed, 95) for directed in distances))


def _both_empty(image: ScoredImage) -> bool:
    return not image.prediction.any() and not image.target.any()
