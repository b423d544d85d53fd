"""Crop, padding and normalisation of volumes: properties that hold for any of them."""

from __future__ import annotations

import numpy as np
import pytest

from xferlab.data.sources.lgg.volume import Scale, brain_box, crop_and_pad, normalised


def test_box_holds_all_that_is_bright_enough() -> None:
    volume = np.zeros((3, 20, 30, 3), np.uint8)
    volume[0, 4, 7, 1] = 100
    volume[2, 15, 20, 2] = 10
    volume[1, 0, 0, 0] = 9  # below a tenth of the maximum
    assert brain_box(volume) == (4, 16, 7, 21)


def test_empty_volume_keeps_its_area() -> None:
    assert brain_box(np.zeros((2, 8, 9, 3), np.uint8)) == (0, 8, 0, 9)


@pytest.mark.parametrize(("height", "width"), [(5, 5), (4, 7), (7, 4), (1, 6)])
def test_padding_centres_and_loses_nothing(height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)
    square = crop_and_pad(pixels, (0, height, 0, width))
    side = max(height, width)
    assert square.shape == (side, side, 3)
    assert square.sum() == pixels.sum()
    top, left = (side - height) // 2, (side - width) // 2
    assert (square[top : top + height, left : left + width] == pixels).all()
    assert (crop_and_pad(pixels[..., 0], (0, height, 0, width)) == square[..., 0]).all()


def test_even_channel_has_z_score_0() -> None:
    image = np.full((2, 2, 3), 50, np.uint8)
    scale = Scale((0, 2, 0, 2), 0.0, 100.0, np.full(3, 0.5), np.zeros(3))
    assert (normalised(image, scale) == 64).all()  # 2 of 8 deviations: a quarter of 255


def test_order_of_grey_levels_is_kept() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None].repeat(3, axis=-1)
    scale = Scale((0, 16, 0, 16), 20.0, 220.0, np.array([0.3, 0.4, 0.5]), np.array([0.2, 0.25, 0.3]))
    levels = normalised(image, scale).reshape(256, 3).astype(int)
    assert (np.diff(levels, axis=0) >= 0).all()
    assert (levels[:20] == levels[0]).all()
    assert (levels[220:] == levels[255]).all()
