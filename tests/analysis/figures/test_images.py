"""Lines of images: images of several sizes stand in places of one size, with what is drawn in them."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from xferlab.analysis.figures.images import Line, lines_of_images

pytestmark = pytest.mark.component
SIZES = ((52, 40), (48, 40), (26, 20))


def square(height: int, width: int, grey: int) -> np.ndarray:
    """A square of a grey level in the middle half of black."""
    image = np.zeros((height, width), np.uint8)
    image[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = grey
    return image


def drawn(sizes: tuple[tuple[int, int], ...]) -> Figure:
    """An image and, below it, an output with a target, of each size."""
    images = [square(*size, 200) for size in sizes]
    outputs = Line(
        "network",
        images,
        below=[f"Dice {number}" for number in range(len(sizes))],
        masks=[[square(*size, 1) > 0] for size in sizes],
        colours=["blue"],
        targets=[[square(*size, 255)] for size in sizes],
    )
    named = {"network": "blue"}
    return lines_of_images([Line("Image", images), outputs], ["x"] * len(sizes), named=named)


def test_images_of_several_sizes_are_enlarged_to_places_of_one_size() -> None:
    top, bottom = drawn(SIZES).axes
    gap = 2
    for axes in (top, bottom):
        picture = np.asarray(axes.images[0].get_array())
        assert picture.shape == (52, 3 * 40 + 2 * gap)
        first, second, third = (picture[:, start : start + 40] for start in (0, 42, 84))
        assert (first == square(52, 40, 200)).all()
        assert (second[2:50] == square(48, 40, 200)).all()  # its own pixels
        assert (second[[0, 1, 50, 51]] == 255).all()
        assert np.abs(third.astype(int) - square(52, 40, 200)).mean() < 20  # twice as large
        assert (picture[:, [40, 41, 82, 83]] == 255).all()


def test_texts_and_targets_are_where_the_images_are() -> None:
    bottom = drawn(SIZES).axes[1]
    below = {text.get_text(): text.get_position()[0] for text in bottom.texts}
    assert [below[f"Dice {number}"] for number in range(3)] == [19.5, 61.5, 103.5]
    for outlines in bottom.collections:  # the mask's fill and outline, and the target's
        (box,) = (path.get_extents() for path in outlines.get_paths() if len(path.vertices))
        assert box.extents == pytest.approx([9.5, 12.5, 113.5, 38.5], abs=1)


def test_images_of_one_size_are_drawn_as_they_are() -> None:
    for axes in drawn(((48, 40), (48, 40))).axes:
        image = square(48, 40, 200)
        white = np.full((48, 2), 255)
        assert (axes.images[0].get_array() == np.concatenate([image, white, image], axis=1)).all()
