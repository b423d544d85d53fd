"""Fields, the simulated device and foreign objects: each a pure function of its seed or its case."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from xferlab.phantoms.device import Pose, _move, simulate_portable
from xferlab.phantoms.fields import ellipse, largest_component, noise, octaves, soft
from xferlab.phantoms.foreign_objects import DRAWERS, with_objects

# --- fields ----------------------------------------------------------------------------------------------


def test_noise_has_unit_deviation_and_no_mean():
    field = noise(np.random.default_rng(0), 40, 160)
    assert abs(field.mean()) < 0.1
    assert field.std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    "draw", [lambda rng, size: noise(rng, 6, size), lambda rng, size: octaves(rng, 4, 2, size)]
)
def test_fields_are_the_same_at_every_size(draw):
    large, small = (draw(np.random.default_rng(3), size) for size in (192, 64))
    # Centres of the small grid's pixels are those of every third pixel of the large one.
    np.testing.assert_allclose(large[1::3, 1::3], small, atol=1e-4)


def test_a_soft_edge_is_half_covered_on_the_border():
    distance = np.array([-1.0, -0.1, 0.0, 0.1, 1.0])
    np.testing.assert_allclose(soft(distance, 0.4), [0, 0.25, 0.5, 0.75, 1], atol=1e-6)


def test_ellipse_is_positive_inside_and_zero_on_the_border():
    x, y = np.array([[0.0, 2.0, 0.0, 3.0]]), np.array([[0.0, 0.0, 1.0, 0.0]])
    np.testing.assert_allclose(ellipse(x, y, at=(0, 0), axes=(2, 1)), [[1, 0, 0, -0.5]], atol=1e-6)


def test_turned_ellipse_equals_ellipse_with_exchanged_axes():
    y, x = np.mgrid[-1:1:9j, -1:1:9j]
    turned = ellipse(x, y, at=(0.1, 0), axes=(0.8, 0.3), turn=np.pi / 2)
    np.testing.assert_allclose(turned, ellipse(x, y, at=(0.1, 0), axes=(0.3, 0.8)), atol=1e-5)


def test_largest_component():
    mask = np.array([[1, 0, 1, 1], [0, 0, 0, 1]], bool)
    np.testing.assert_array_equal(largest_component(mask), [[0, 0, 1, 1], [0, 0, 0, 1]])
    assert not largest_component(np.zeros((3, 3), bool)).any()


# --- the simulated portable device -----------------------------------------------------------------------


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


# --- foreign objects -------------------------------------------------------------------------------------


DIGESTS = ["aa" * 32, "bb" * 32, "cc" * 32]


def grey(side: int = 64, *, count: int = 3, channels: int = 1, level: int = 60) -> np.ndarray:
    return np.full((count, channels, side, side), level, np.uint8)


@pytest.mark.parametrize("kind", DRAWERS)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_kind_brightens_a_part_and_leaves_the_rest(kind: str, channels: int) -> None:
    images = grey(channels=channels)
    laid = with_objects(images, DIGESTS, [kind])
    assert (laid.shape, laid.dtype) == (images.shape, np.uint8)
    assert (images == 60).all()
    assert (laid >= images).all()
    share = (laid > images).mean(axis=(1, 2, 3))
    assert ((share > 0) & (share < 0.5)).all()
    assert (laid == laid[:, :1]).all()


def test_a_case_gets_the_same_object_in_any_company() -> None:
    images, kinds = grey(), ["implant", "cable"]
    together = with_objects(images, DIGESTS, kinds)
    for row, digest in enumerate(DIGESTS):
        assert (with_objects(images[row : row + 1], [digest], kinds[::-1]) == together[row]).all()
    assert (together[0] != together[1]).any()


def test_another_kind_moves_nothing() -> None:
    images = grey()
    implant, both = (with_objects(images, DIGESTS, kinds) for kinds in (["implant"], ["implant", "cable"]))
    assert (both >= implant).all()
    assert (both != implant).any()
    two = with_objects(images, DIGESTS, ["cable", "cable"])
    assert ((two > 60).mean() > (with_objects(images, DIGESTS, ["cable"]) > 60).mean()).all()


def test_none_is_a_copy() -> None:
    images = grey()
    laid = with_objects(images, DIGESTS, [])
    assert (laid == images).all()
    assert not np.shares_memory(laid, images)
    assert len(with_objects(images[:0], [], ["cable"])) == 0


@pytest.mark.parametrize("kind", DRAWERS)
def test_place_does_not_depend_on_resolution(kind: str) -> None:
    small, large = (with_objects(grey(side), DIGESTS, [kind])[:, 0] for side in (128, 512))
    for few, many in zip(small, large, strict=True):
        shrunk = np.asarray(Image.fromarray(many).resize((128, 128), Image.Resampling.BOX)).astype(int)
        assert np.abs(shrunk - few).mean() < 0.12 * np.abs(few.astype(int) - 60).mean() + 1.0


def test_real_images_of_any_size(real_data: Path) -> None:
    path = min((real_data / "covid-lung-native" / "images").iterdir())
    with Image.open(path) as opened:
        image = np.asarray(opened.convert("L"))[None, None]
    laid = with_objects(image, DIGESTS[:1], list(DRAWERS))
    assert 0.001 < (laid != image).mean() < 0.5
