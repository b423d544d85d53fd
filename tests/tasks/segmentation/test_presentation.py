"""What is drawn and written of a segmented image."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from xferlab.tasks.segmentation.config import COLOURS, files_of
from xferlab.tasks.segmentation.overlay import FILL_OPACITY, overlay
from xferlab.tasks.segmentation.presentation import present
from xferlab.tasks.segmentation.resized import at_size

FILL = COLOURS[0][0]


def picture(seed: int, *, height: int = 45, width: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def mask_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_the_size_is_antialiased_bilinear_as_in_pytorch() -> None:
    small = np.random.default_rng(0).random((32, 32), dtype=np.float32)
    for height, width in ((45, 60), (20, 100), (11, 7), (32, 32)):
        expected = functional.interpolate(
            torch.from_numpy(small)[None, None], (height, width), mode="bilinear", antialias=True
        )
        found = at_size(np.stack([small, small.T]), width=width, height=height)
        assert found.shape == (2, height, width)
        assert np.abs(found[0] - expected[0, 0].numpy()).max() < 1e-5


def test_components_touch_at_corners() -> None:
    mask = np.zeros((6, 6), bool)
    mask[[0, 1, 4], [0, 1, 4]] = True
    shown = present(np.zeros((6, 6), np.uint8), {"heart": mask})
    assert shown.columns == {
        "width": 6, "height": 6, "heart_pixels": 3, "heart_share": 0.083333, "components": 2,
    }  # fmt: skip
    assert (mask_of(shown.files["mask"]) == mask * 255).all()


def test_several_structures_have_a_mask_and_figures_each_and_one_overlay() -> None:
    image, heart, lung = picture(1, height=40, width=40), disc(40, 6), disc(40, 15)
    shown = present(image, {"heart": heart, "lung": lung})
    assert tuple(shown.files) == tuple(files_of(["heart", "lung"])) == ("mask_heart", "mask_lung", "overlay")
    assert (mask_of(shown.files["mask_heart"]) == heart * 255).all()
    assert (mask_of(shown.files["mask_lung"]) == lung * 255).all()
    assert (mask_of(shown.files["overlay"]) == overlay(image, [heart, lung])).all()
    assert shown.columns == {
        "width": 40, "height": 40,
        "heart_pixels": heart.sum(), "heart_share": round(heart.mean(), 6), "heart_components": 1,
        "lung_pixels": lung.sum(), "lung_share": round(lung.mean(), 6), "lung_components": 1,
    }  # fmt: skip


def disc(size_px: int, radius_px: float) -> np.ndarray:
    y, x = np.indices((size_px, size_px)) - (size_px - 1) / 2
    return np.asarray(x**2 + y**2 < radius_px**2)


def test_overlay_keeps_the_image_beyond_the_outline() -> None:
    image = picture(1, height=90, width=90)
    drawn = overlay(image, [disc(90, 20)])
    assert drawn.shape == (90, 90, 3)
    assert drawn.dtype == np.uint8
    outside = ~disc(90, 24)
    assert (drawn[outside] == image[outside][:, None]).all()


def test_overlay_is_translucent_inside() -> None:
    image = picture(1, height=90, width=90)
    inside = disc(90, 14)
    expected = image[inside][:, None] * (1 - FILL_OPACITY) + FILL_OPACITY * np.array(FILL)
    assert np.abs(overlay(image, [disc(90, 20)])[inside] - expected).max() <= 0.51


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_the_outline_stands_out_from_its_ground(grey: int) -> None:
    # Relative luminance, as in WCAG: the line or its casing differs from what is on either side.
    image, inside = np.full((700, 700), grey, np.uint8), disc(700, 200)
    row = overlay(image, [inside])[350].astype(np.float64) @ (0.2126, 0.7152, 0.0722)
    edge = row[145:157]
    assert np.ptp(edge) > 60


def test_overlay_of_nothing_and_of_everything() -> None:
    image = picture(1, height=40, width=50)
    empty = overlay(image, [np.zeros((40, 50), bool)])
    assert (empty == image[..., None]).all()
    full = overlay(image, [np.ones((40, 50), bool)])
    expected = image[..., None] * (1 - FILL_OPACITY) + FILL_OPACITY * np.array(FILL)
    assert np.abs(full - expected).max() <= 0.51


def test_overlays_of_several_structures_blend_where_they_meet() -> None:
    image = np.full((90, 90), 100, np.uint8)
    large, small = disc(90, 40), disc(90, 20)
    drawn = overlay(image, [large, small])
    ring = disc(90, 34) & ~disc(90, 26)
    one = 100 * (1 - FILL_OPACITY) + FILL_OPACITY * np.array(COLOURS[0][0])
    both = one * (1 - FILL_OPACITY) + FILL_OPACITY * np.array(COLOURS[1][0])
    assert np.abs(drawn[ring] - one).max() <= 0.51
    assert np.abs(drawn[disc(90, 14)] - both).max() <= 0.51
    assert (drawn[45] == COLOURS[1][1]).all(axis=-1).any(), "the outline of the small one lies on top"


def test_more_structures_than_colours_take_them_again() -> None:
    image, inside = np.full((60, 60), 100, np.uint8), disc(60, 20)
    nothing = [np.zeros_like(inside)] * len(COLOURS)
    assert (overlay(image, [*nothing, inside]) == overlay(image, [inside])).all()


def test_overlay_depends_on_neither_position_nor_crop() -> None:
    image, inside = np.full((80, 80), 100, np.uint8), np.zeros((80, 80), bool)
    inside[20:30, 15:40] = True
    moved = overlay(image, [np.roll(inside, (25, 30), (0, 1))])
    assert (np.roll(overlay(image, [inside]), (25, 30), (0, 1)) == moved).all()
