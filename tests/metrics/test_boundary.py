from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from xferlab.metrics.boundary import boundary, surface_distances
from xferlab.metrics.measuring import measure

EMPTY = np.zeros((30, 40), dtype=bool)


def square(top: int, left: int, side: int):
    mask = EMPTY.copy()
    mask[top : top + side, left : left + side] = True
    return mask


def distances(prediction, target, spacing_mm=None):
    values = measure(prediction.astype(np.float32), target, spacing_mm=spacing_mm)
    return values["HD95_px"], values["HD95_mm"], values["NSD_2px"]


def by_all_pairs(prediction, target, spacing):
    """HD95 and NSD from the distance of every pair of boundary pixels."""
    edges = [np.argwhere(mask & ~binary_erosion(mask)) * spacing for mask in (prediction, target)]
    table = cdist(*edges)
    there, back = table.min(axis=1), table.min(axis=0)
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return hd95, (np.sum(there <= 2) + np.sum(back <= 2)) / (len(there) + len(back))


@settings(deadline=None)  # loaded machines, late imports
@given(arrays(np.bool_, (9, 11)))
def test_the_boundary_is_the_mask_without_its_erosion(mask):
    np.testing.assert_array_equal(boundary(mask), mask & ~binary_erosion(mask))


@settings(deadline=None)  # loaded machines, late imports
@given(arrays(np.bool_, (9, 11)), arrays(np.bool_, (9, 11)))
def test_agrees_with_all_pairs(prediction, target):
    if not prediction.any() or not target.any():
        return
    hd95_px, hd95_mm, nsd = distances(prediction, target, spacing_mm=(0.5, 1.75))
    assert (hd95_px, nsd) == pytest.approx(by_all_pairs(prediction, target, (1.0, 1.0)), rel=1e-12)
    assert hd95_mm == pytest.approx(by_all_pairs(prediction, target, (0.5, 1.75))[0], rel=1e-12)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.37, 0.61)])
@pytest.mark.parametrize("roughness", [0.0, 0.02])
def test_a_search_and_a_distance_transform_give_the_same_bits(monkeypatch, roughness, spacing):
    rows, columns = np.mgrid[:120, :150]
    draws = np.random.default_rng(1)

    def blobs():
        """Two ellipses, of which a share of the pixels is turned over."""
        mask = np.zeros((120, 150), bool)
        for _ in range(2):
            row, column, height, width = draws.uniform((20, 20, 8, 8), (100, 130, 40, 40))
            mask |= ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 < 1
        return mask ^ (draws.random(mask.shape) < roughness)

    for prediction, target in [(blobs(), blobs()) for _ in range(20)]:
        found = []
        for sparse in (0, 10**9):  # always by a search, never
            monkeypatch.setattr("xferlab.metrics.boundary.SPARSE", sparse)
            found.append(surface_distances(prediction, target, spacing))
        assert all(map(np.array_equal, *found))


@pytest.mark.component
@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")  # MONAI's own call
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 1.75)])
def test_agrees_with_monai(scored, spacing):
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    output, target = scored
    pair = [torch.from_numpy(np.stack([~mask, mask])[None]) for mask in (output > 0.5, target)]
    hd95 = compute_hausdorff_distance(*pair, percentile=95, spacing=spacing).item()
    nsd = compute_surface_dice(*(mask.float() for mask in pair), class_thresholds=[2.0]).item()
    hd95_px, hd95_mm, nsd_2px = distances(output > 0.5, target, spacing)
    assert hd95_mm == pytest.approx(hd95, rel=1e-6)
    assert nsd_2px == pytest.approx(nsd, rel=1e-6)
    assert spacing != (1.0, 1.0) or hd95_px == hd95_mm


def test_by_hand():
    # Single pixels, 3 rows and 4 columns apart.
    assert distances(square(5, 5, 1), square(8, 9, 1), (2.0, 2.0)) == (5.0, 10.0, 0.0)
    # Squares of 12 boundary pixels, moved by one column: two columns of 4 lie on no boundary of the other.
    hd95, _, nsd = distances(square(5, 5, 4), square(5, 6, 4))
    assert (hd95, nsd) == (1.0, 1.0)


def test_is_the_larger_of_the_two_directions():
    target = square(2, 2, 10)
    with_island = target | square(25, 35, 2)
    # Every boundary pixel of the target lies on the prediction's, but not the other way round.
    assert distances(with_island, target)[0] == distances(target, with_island)[0] > 20


def test_nsd_steps_at_the_tolerance():
    target = square(10, 10, 1)
    assert [distances(np.roll(target, step, axis=1), target)[2] for step in (0, 2, 3)] == [1.0, 1.0, 0.0]


def test_empty_policy():
    assert distances(EMPTY, EMPTY, (0.5, 0.5)) == (0.0, 0.0, 1.0)
    for pair in ((EMPTY, square(2, 2, 3)), (square(2, 2, 3), EMPTY)):
        assert distances(*pair, (0.5, 2.0)) == (50.0, math.hypot(15, 80), 0.0)


def test_millimetres_are_undefined_without_spacing():
    assert math.isnan(distances(square(2, 2, 3), square(3, 3, 3))[1])
    assert math.isnan(distances(EMPTY, EMPTY)[1])
