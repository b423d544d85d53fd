"""Tiles: the grid covers everything, weights blend without seams, draws hit and have no state."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from xferlab.tasks.segmentation.sections import Tiling
from xferlab.tasks.segmentation.tiles import Anchors, blend_weights, draw_tiles, stitch, tile_grid
from xferlab.training.learner import AugmentationSeed

# `randomness` draws noise on devices too, so importing it imports torch.

SIDES = st.integers(1, 300)
OVERLAPS = st.floats(0.0, 0.9)


def anchors(height: int, width: int, *, structure: Any = None, count: int = 1) -> list[list[Anchors]]:
    target = np.zeros((height, width), np.uint8)
    if structure is not None:
        target[structure] = 255
    return [[Anchors(target, structure=255)]] * count


def keys(count: int, *, first: int = 0) -> np.ndarray:
    return np.arange(first, first + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


@given(SIDES, SIDES, st.integers(1, 64), OVERLAPS)
@settings(deadline=None)
def test_grid_covers_every_pixel_and_stays_inside(height: int, width: int, size: int, overlap: float) -> None:
    positions = tile_grid(height, width, size=size, overlap=overlap)
    covered = np.zeros((height, width), int)
    for top, left in positions:
        covered[top : top + size, left : left + size] += 1
    assert covered.min() >= 1
    assert len(np.unique(positions, axis=0)) == len(positions)
    assert (positions >= 0).all()
    for axis, length in enumerate((height, width)):
        assert (positions[:, axis] + size <= max(length, size)).all()
    aligned = tile_grid(16 * height, 16 * width, size=16 * size, overlap=overlap, align=16)
    assert (aligned % 16 == 0).all()


@given(SIDES, st.integers(2, 64), OVERLAPS)
@settings(deadline=None)
def test_neighbours_overlap_by_at_least_what_was_asked(length: int, size: int, overlap: float) -> None:
    starts = np.unique(tile_grid(length, 1, size=size, overlap=overlap)[:, 0])
    assert (np.diff(starts) <= max(1, size * (1 - overlap))).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5000), (4000, 3), (15, 17)])
def test_extreme_shapes(height: int, width: int) -> None:
    size = 64
    positions = tile_grid(height, width, size=size, overlap=0.5)
    assert len(positions) == math.prod(max(0, math.ceil((n - size) / 32)) + 1 for n in (height, width))
    tiles = [np.full((size, size), 0.25, np.float32)] * len(positions)
    blended = stitch(tiles, positions, shape=(height, width), weights=blend_weights(size, 0.5))
    assert blended.shape == (height, width)
    assert np.allclose(blended, 0.25, atol=1e-6)


@given(st.integers(1, 80), OVERLAPS)
def test_weights_are_positive_even_and_highest_in_the_middle(size: int, overlap: float) -> None:
    weights = blend_weights(size, overlap)
    assert (weights.shape, weights.dtype) == ((size, size), np.float32)
    assert (weights > 0).all()
    assert weights.max() == weights[size // 2, size // 2] <= 1
    assert (weights == weights.T).all()
    assert np.array_equal(weights, weights[::-1])
    profile = weights[size // 2]
    assert (np.diff(profile[: (size + 1) // 2]) >= 0).all()


@given(st.integers(1, 40), st.integers(2, 8))
def test_weights_of_neighbours_add_up_to_one(half_overlap: int, parts: int) -> None:
    shared = 2 * half_overlap
    size = parts * shared
    side = np.sqrt(np.diag(blend_weights(size, 1 / parts)))
    assert np.allclose(side[-shared:] + side[:shared], 1.0, atol=2e-6)


@given(SIDES, SIDES, st.integers(1, 64), OVERLAPS)
@settings(deadline=None, max_examples=50)
def test_pieces_of_one_map_give_it_back(height: int, width: int, size: int, overlap: float) -> None:
    whole = np.random.default_rng(0).random((height, width), dtype=np.float32)
    padded = np.pad(whole, ((0, size), (0, size)))
    positions = tile_grid(height, width, size=size, overlap=overlap)
    tiles = (padded[top : top + size, left : left + size] for top, left in positions)
    blended = stitch(tiles, positions, shape=(height, width), weights=blend_weights(size, overlap))
    assert np.allclose(blended, whole, atol=1e-6)


@pytest.mark.parametrize(("height", "width", "overlap"), [(96, 80, 0.5), (33, 100, 0.25), (200, 41, 0.6)])
def test_stitching_agrees_with_monai(height: int, width: int, overlap: float) -> None:
    monai = pytest.importorskip("monai.inferers")
    torch = pytest.importorskip("torch")
    size = 32
    image = np.random.default_rng(1).random((height, width), dtype=np.float32)
    local = np.random.default_rng(2).random((size, size), dtype=np.float32)
    weights = blend_weights(size, overlap)
    expected = monai.sliding_window_inference(
        torch.from_numpy(image)[None, None],
        roi_size=(size, size),
        sw_batch_size=3,
        predictor=lambda tiles: tiles * torch.from_numpy(local),  # a tile's own opinion, so that seams exist
        overlap=overlap,
        roi_weight_map=torch.from_numpy(weights),
    )
    positions = tile_grid(height, width, size=size, overlap=overlap)
    tiles = (image[top : top + size, left : left + size] * local for top, left in positions)
    blended = stitch(tiles, positions, shape=(height, width), weights=weights)
    assert np.allclose(blended, expected[0, 0].numpy(), atol=1e-5)


def test_blending_leaves_no_seam() -> None:
    size, overlap = 64, 0.5
    positions = tile_grid(200, 200, size=size, overlap=overlap)
    tiles = np.random.default_rng(3).random((len(positions), 1, 1), dtype=np.float32)
    flat = [np.full((size, size), level, np.float32) for level in tiles.ravel()]
    blended = stitch(flat, positions, shape=(200, 200), weights=blend_weights(size, overlap))
    steps = max(np.abs(np.diff(blended, axis=axis)).max() for axis in (0, 1))
    # Between tiles that differ by 1 the steepest step of a squared sine over 16 px is pi / 2 / 16.
    assert steps < math.pi / 2 / 16


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 0}, "greater than or equal to 16"),
        ({"size": 250}, "250 is not divisible by 16; the nearest sizes are 240 and 256"),
        ({"overlap": 1.0}, "less than 1"),
        ({"overlap": -0.1}, "greater than or equal to 0"),
        ({"hit": 1.1}, "less than or equal to 1"),
    ],
)
def test_tiles_that_cannot_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Tiling(**{"size": 64} | fields)


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 1, exclude_max=True))
def test_anchors_number_the_structure_in_reading_order(height: int, width: int, share: float) -> None:
    target = np.random.default_rng(height * 31 + width).choice(
        np.array([0, 127, 255], np.uint8), (height, width)
    )
    target[-1, -1] = 255
    one = Anchors(target, structure=255)
    places = np.argwhere(target == 255)
    assert one.count == len(places)
    assert one.pick(share) == tuple(places[int(share * len(places))])


@given(SIDES, SIDES, st.integers(1, 64), st.integers(0, 5))
@settings(deadline=None, max_examples=50)
def test_drawn_tiles_lie_inside_and_contain_the_anchor(
    height: int, width: int, size: int, epoch: int
) -> None:
    spot = (height // 3, width // 2)
    cases = anchors(height, width, structure=spot, count=20)
    positions = draw_tiles(cases, keys(20), AugmentationSeed(1, epoch), size=size, hit=1.0)
    assert (positions >= 0).all()
    assert (positions + size <= np.maximum((height, width), size)).all()
    assert ((positions <= spot) & (positions + size > spot)).all()


def test_tiles_hit_with_the_set_probability() -> None:
    count, size, hit = 4000, 8, 0.6
    cases = anchors(100, 100, structure=(slice(50, 52), slice(40, 43)), count=count)
    tops, lefts = draw_tiles(cases, keys(count), AugmentationSeed(3, 1), size=size, hit=hit).T
    contain = (tops < 52) & (tops + size > 50) & (lefts < 43) & (lefts + size > 40)
    by_chance = (size + 1) * (size + 2) / (100 - size + 1) ** 2
    expected = hit + (1 - hit) * by_chance
    assert abs(contain.mean() - expected) < 4 * math.sqrt(expected * (1 - expected) / count)


@pytest.mark.parametrize(("structure", "hit"), [(None, 1.0), ((3, 3), 0.0)])
def test_without_structure_or_hits_all_places_are_equally_likely(structure: Any, hit: float) -> None:
    count = 4000
    cases = anchors(13, 10, structure=structure, count=count)
    positions = draw_tiles(cases, keys(count), AugmentationSeed(5, 2), size=9, hit=hit)
    _, counts = np.unique(positions, axis=0, return_counts=True)
    assert len(counts) == 5 * 2
    assert np.abs(counts / count - 0.1).max() < 5 * math.sqrt(0.1 * 0.9 / count)


def test_tiles_that_hit_are_shared_equally_by_the_structures_that_are_there() -> None:
    """However large each is; a structure that is absent takes no part."""
    count, size = 3000, 8
    (small,), (large,), (absent,) = (
        anchors(400, 400, structure=structure)[0]
        for structure in ((slice(50, 52), slice(40, 43)), (slice(200, 390), slice(200, 390)), None)
    )
    cases = [[small, absent, large]] * count
    tops, lefts = draw_tiles(cases, keys(count), AugmentationSeed(3, 1), size=size, hit=1.0).T
    on_small = (tops < 52) & (tops + size > 50) & (lefts < 43) & (lefts + size > 40)
    on_large = (tops + size > 200) & (lefts + size > 200)
    assert (on_small | on_large).all()
    assert abs(on_small.mean() - 0.5) < 4 * math.sqrt(0.25 / count)


def test_draws_have_no_state() -> None:
    cases = anchors(90, 70, structure=(slice(20, 60), slice(10, 30)), count=12)

    def drawn(keys: np.ndarray, seed: int = 1, epoch: int = 4) -> np.ndarray:
        return draw_tiles(cases[: len(keys)], keys, AugmentationSeed(seed, epoch), size=32, hit=0.5)

    together = drawn(keys(12))
    assert (together == np.concatenate([drawn(keys(1, first=case)) for case in range(12)])).all()
    for changed in ({"seed": 2}, {"epoch": 5}):
        assert (drawn(keys(12), **changed) != together).any()
