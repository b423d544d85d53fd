from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.measure import perimeter_crofton

from tests.metrics.test_topology import drawn
from xferlab.errors import DataError
from xferlab.metrics.markers import (
    MARKERS,
    Line,
    cardiothoracic,
    markers,
    outline,
    patch_markers,
    widest,
)

LEFT = drawn("""
    ........
    .....##.
    .....##.
    .....###
    ........
""")
RIGHT = drawn("""
    ##......
    .#......
    .#......
    ........
    .#......
""")
HEART = drawn("""
    ........
    ........
    ..#.#...
    ...#....
    ........
""")
CHEST = {"left_lung": LEFT, "right_lung": RIGHT, "heart": HEART}


def test_the_ratio_is_of_the_widest_extents_and_the_lines_say_where():
    lines = cardiothoracic(CHEST)
    # Row 3 holds the widest lung and only one; row 0 the other one alone.
    assert lines == (Line(2, 2, 4), Line(1, 1, 6))
    assert lines.ratio == 3 / 6
    assert cardiothoracic({"lungs": LEFT | RIGHT, "heart": HEART}).thorax == Line(1, 1, 6)


@pytest.mark.parametrize("absent", ["left_lung", "heart"])
def test_no_ratio_without_both_lungs_or_the_heart(absent):
    assert cardiothoracic({name: mask for name, mask in CHEST.items() if name != absent}) is None
    assert cardiothoracic({**CHEST, absent: np.zeros_like(LEFT)}) is None
    assert widest(np.zeros_like(LEFT)) is None


def test_markers_are_hand_arithmetic():
    image = np.zeros(LEFT.shape, np.uint8)
    image[LEFT] = 51
    image[RIGHT] = 255
    image[HEART] = 102
    values = markers(image, CHEST, LEFT | RIGHT)
    assert set(values) == {marker.name for marker in MARKERS} - {"PATCH_MEAN", "PATCH_SD"}
    # Seven pixels of 0.2 and five of 1.
    mean = (7 * 0.2 + 5 * 1.0) / 12
    assert values["LUNG_MEAN"] == pytest.approx(mean)
    assert values["LUNG_SD"] == pytest.approx(math.sqrt((7 * 0.04 + 5) / 12 - mean**2))
    assert values["HEART_MEAN"] == pytest.approx(0.4)
    assert (values["LUNG_AREA"], values["CTR"]) == (12 / 40, 0.5)


def test_what_a_stage_does_not_take_is_undefined():
    image = np.full(LEFT.shape, 9, np.uint8)
    assert all(math.isnan(value) for value in markers(image, {}, None).values())
    values = markers(image, {"lungs": LEFT}, np.zeros_like(LEFT))
    assert (values["LUNG_AREA"], values["LUNG_OUTLINE"]) == (0, 0)
    assert all(math.isnan(values[name]) for name in ("LUNG_MEAN", "LUNG_SD", "HEART_MEAN", "CTR"))
    with pytest.raises(DataError, match=r"region: found bool \(4, 8\); accepted: bool \(5, 8\)"):
        markers(image, {}, LEFT[1:])


def test_the_outline_is_crofton_s_and_right_of_a_circle(scored):
    assert outline(scored[1]) * math.sqrt(40 * 56) == pytest.approx(perimeter_crofton(scored[1], 4))
    for side in (64, 256):
        rows, columns = np.mgrid[:side, :side] / side
        circle = (rows - 0.5) ** 2 + (columns - 0.45) ** 2 < 0.25**2
        assert outline(circle) == pytest.approx(2 * math.pi * 0.25, rel=0.02)


@pytest.mark.parametrize("factor", [2, 3])
def test_markers_do_not_depend_on_the_size_of_the_image(scored, factor):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (40, 56)).astype(np.uint8)
    heart = np.zeros((40, 56), bool)
    heart[20:30, 22:35] = True
    masks = {"lungs": scored[1], "heart": heart}

    def larger(array):
        return array.repeat(factor, axis=0).repeat(factor, axis=1)

    small = markers(image, masks, scored[1])
    large = markers(larger(image), {name: larger(mask) for name, mask in masks.items()}, larger(scored[1]))
    assert small == pytest.approx({**large, "LUNG_OUTLINE": small["LUNG_OUTLINE"]})  # steps become corners


def test_patches_count_that_are_told_right():
    patches = np.array(
        [[5, 5, 0.2, 0.02, 0.7, 0.3], [5, 9, 0.4, 0.04, 0.6, 0.4], [9, 9, 0.9, 0.5, 0.1, 0.9]], np.float32
    )
    assert patch_markers(patches, 0) == pytest.approx({"PATCH_MEAN": 0.3, "PATCH_SD": 0.03})
    assert patch_markers(patches, 1) == pytest.approx({"PATCH_MEAN": 0.9, "PATCH_SD": 0.5})
    for patches_of, label in ((None, 0), (patches[:2], 1)):
        assert all(math.isnan(value) for value in patch_markers(patches_of, label).values())
