"""The simulated portable device: a function of seed and key that moves labels with the image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from xferlab.phantoms.device import Pose, _move, simulate_portable

KEYS = ("a", "b", "c", "d")


def block() -> tuple[np.ndarray, np.ndarray]:
    """A dark rectangle on grey, labelled 7, off centre so that every movement shows."""
    image, labels = np.full((96, 96), 150, np.uint8), np.zeros((1, 96, 96), np.uint8)
    image[24:60, 18:50], labels[:, 24:60, 18:50] = 20, 7
    return image, labels


def test_is_a_pure_function_of_image_seed_and_key() -> None:
    image, labels = block()
    before = image.tobytes(), labels.tobytes()
    first, second = (simulate_portable(image, labels, seed=1, key="k") for _ in range(2))
    assert [array.tobytes() for array in first] == [array.tobytes() for array in second]
    assert (image.tobytes(), labels.tobytes()) == before
    outcomes = {
        simulate_portable(image, labels, seed=seed, key=key)[0].tobytes() for seed in (0, 1) for key in "ab"
    }
    assert len(outcomes) == 4


def test_shapes_and_types_stay() -> None:
    image, labels = np.full((50, 80), 128, np.uint8), np.ones((3, 50, 80), np.uint8)
    film, moved = simulate_portable(image, labels, seed=0, key="x")
    assert (film.shape, moved.shape) == ((50, 80), (3, 50, 80))
    assert film.dtype == moved.dtype == np.uint8
    assert (moved == moved[0]).all()


@pytest.mark.parametrize("key", KEYS)
def test_labels_move_with_the_image_and_contrast_falls(key: str) -> None:
    image, labels = block()
    film, (moved,) = simulate_portable(image, labels, seed=3, key=key)
    assert set(np.unique(moved)) <= {0, 7}
    assert not np.array_equal(moved, labels[0])
    inside = ndimage.binary_erosion(moved == 7, iterations=3)
    near, far = (ndimage.binary_dilation(moved == 7, iterations=rounds) for rounds in (3, 9))
    assert 15 < np.median(film[far & ~near]) - np.median(film[inside]) < 130 - 5


def test_a_quarter_turn_of_a_wide_picture_swaps_the_axes() -> None:
    labels = np.zeros((60, 120), np.uint8)
    labels[25:35, 40:80] = 1
    _, (turned,) = _move(labels, labels[None], Pose(np.pi / 2, (1.0, 1.0), (0.0, 0.0), (0.0, 0.0)))
    rows, columns = np.nonzero(turned)
    assert (rows.min(), rows.max()) == (10, 49)
    assert (columns.min(), columns.max()) == (55, 64)
