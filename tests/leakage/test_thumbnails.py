"""Thumbnails: borders do not count, nor do monotone changes of grey levels; odd images are no error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from xferlab.leakage.thumbnails import SIDE_PX, is_black, thumbnail


def drawn(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


@given(st.integers(24, 300), st.integers(24, 300))
def test_the_longer_side_has_128_pixels_and_the_shorter_its_share(height: int, width: int) -> None:
    shape = thumbnail(drawn(height, width)).shape
    share = min(height, width) / max(height, width)
    assert max(shape) == SIDE_PX
    assert min(shape) == max(round(SIDE_PX * share), 32)
    assert (shape[0] > shape[1]) == (height > width) or shape[0] == shape[1]


def test_grey_levels_are_mid_ranks() -> None:
    pixels = drawn(128, 128)
    expected = 256 * (rankdata(pixels, "average").reshape(pixels.shape) - 0.5) / pixels.size
    assert np.abs(thumbnail(pixels) - expected).max() <= 1


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 255))
def test_flat_borders_are_cut_off(before: int, after: int, grey: int) -> None:
    pixels = drawn(100, 120)
    padded = np.pad(pixels, ((before, after), (after, before)), constant_values=grey)
    assert (thumbnail(padded) == thumbnail(pixels)).all()


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((64, 64), 7, np.uint8),
        np.full((64, 64), 7, np.uint8) + np.eye(64, dtype=np.uint8) * 200,
        np.arange(4096).reshape(64, 64).astype(np.uint8) % 3,
        drawn(1, 1),
        drawn(500, 1),
        drawn(1, 4000),
        drawn(23, 23),
        np.pad(drawn(20, 20), 50),
    ],
    ids=["constant", "diagonal", "three levels", "a pixel", "a column", "a row", "tiny", "tiny on black"],
)
def test_images_that_show_nothing_are_black(pixels: np.ndarray) -> None:
    assert is_black(thumbnail(pixels))


def test_a_long_image_is_shown() -> None:
    long = thumbnail(drawn(30, 3000))
    assert long.shape == (32, 128)
    assert not is_black(long)
    assert not is_black(thumbnail(np.arange(4096).reshape(64, 64).astype(np.uint8)))


@pytest.mark.parametrize("times", [2, 3])
def test_a_large_image_is_averaged_before(times: int) -> None:
    small = drawn(1200, 2048)
    large = np.kron(small, np.ones((times, times), np.uint8))
    assert (thumbnail(large) == thumbnail(small)).all()
