import numpy as np
import pytest
from scipy import ndimage

from xferlab.errors import UsageError
from xferlab.phantoms.device import FOREIGN_OBJECTS, Pose, _move, add_foreign_objects, simulate_portable

KEYS = ("a", "b", "c", "d")


def flat(value=128, shape=(96, 96)):
    return np.full(shape, value, np.uint8), np.ones(shape[:2], np.uint8)


def block():
    """A dark rectangle on grey, labelled 7, off centre so that every movement shows."""
    image, labels = flat(150)
    labels[:] = 0
    image[24:60, 18:50], labels[24:60, 18:50] = 20, 7
    return image, labels


def test_is_a_pure_function_of_its_arguments():
    image, labels = block()
    before = image.tobytes(), labels.tobytes()
    first, second = (simulate_portable(image, labels, seed=1, key="k") for _ in range(2))
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()
    assert (image.tobytes(), labels.tobytes()) == before


def test_seed_and_key_change_the_device():
    image, labels = block()
    outcomes = {
        simulate_portable(image, labels, seed=s, key=k)[0].tobytes() for s in (0, 1) for k in ("a", "b")
    }
    assert len(outcomes) == 4


@pytest.mark.parametrize("shape", [(64, 64), (50, 80), (80, 50, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, bool])
def test_shapes_and_dtypes_stay(shape, dtype):
    image, labels = flat(shape=shape)
    image, moved = simulate_portable(image, labels.astype(dtype), seed=0, key="x")
    assert (image.shape, image.dtype) == (shape, np.uint8)
    assert (moved.shape, moved.dtype) == (shape[:2], dtype)


def test_strength_zero_changes_nothing_and_returns_copies():
    image, labels = block()
    same, same_labels = simulate_portable(image, labels, seed=0, key="x", strength=0)
    np.testing.assert_array_equal(same, image)
    np.testing.assert_array_equal(same_labels, labels)
    assert not np.shares_memory(same, image)
    assert not np.shares_memory(same_labels, labels)


@pytest.mark.parametrize("key", KEYS)
def test_labels_move_with_the_image(key):
    image, labels = block()
    moved, moved_labels = simulate_portable(image, labels, seed=3, key=key)
    assert set(np.unique(moved_labels)) <= {0, 7}
    assert not np.array_equal(moved_labels, labels)
    inside = ndimage.binary_erosion(moved_labels == 7, iterations=3)
    outside = ndimage.binary_dilation(moved_labels == 7, iterations=9) & ~ndimage.binary_dilation(
        moved_labels == 7, iterations=3
    )
    assert np.median(moved[outside]) > np.median(moved[inside]) + 15


def test_a_quarter_turn_of_a_wide_picture_swaps_the_axes():
    labels = np.zeros((60, 120), np.uint8)
    labels[25:35, 40:80] = 1
    _, turned = _move(labels, labels, Pose(np.pi / 2, (1.0, 1.0), (0.0, 0.0), (0.0, 0.0)))
    rows, columns = np.nonzero(turned)
    assert (rows.min(), rows.max()) == (10, 49)
    assert (columns.min(), columns.max()) == (55, 64)


def test_noise_grows_with_strength():
    image, labels = flat()
    grain = []
    for strength in (0.25, 0.5, 1.0, 2.0):
        film = simulate_portable(image, labels, seed=2, key="n", strength=strength)[0].astype(float)
        centre = film[30:66, 30:66]
        grain.append(np.median(np.abs(np.diff(centre, axis=1))))
    assert grain == sorted(grain)
    assert grain[-1] > 3 * grain[0]


def test_contrast_falls():
    lost = 0
    for key in KEYS:
        image, labels = block()
        film, moved = simulate_portable(image, labels, seed=4, key=key)
        lost += np.median(film[moved == 0]) - np.median(film[moved == 7]) < 130 - 5
    assert lost == len(KEYS)


def test_grey_in_three_channels_stays_grey():
    image, labels = block()
    colour, _ = simulate_portable(np.stack([image] * 3, -1), labels, seed=1, key="g")
    grey, _ = simulate_portable(image, labels, seed=1, key="g")
    for channel in range(3):
        np.testing.assert_allclose(colour[..., channel].astype(int), grey, atol=1)


@pytest.mark.parametrize("kind", FOREIGN_OBJECTS)
def test_foreign_objects_only_add_density_in_few_pixels(kind):
    image, _ = flat(90, (128, 128))
    laid = add_foreign_objects(image, seed=0, key="x", kinds=[kind])
    changed = laid != image
    assert 0 < changed.mean() < 0.25
    assert np.all(laid >= image)
    np.testing.assert_array_equal(laid, add_foreign_objects(image, seed=0, key="x", kinds=[kind]))


def test_more_objects_cover_more():
    image, _ = flat(90, (128, 128))
    one, many = (add_foreign_objects(image, seed=0, key="x", kinds=["cable"] * count) for count in (1, 6))
    assert np.sum(many != image) > np.sum(one != image)


def test_no_kind_gives_a_copy():
    image, _ = block()
    same = add_foreign_objects(image, seed=0, key="x", kinds=[])
    np.testing.assert_array_equal(same, image)
    assert not np.shares_memory(same, image)


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(UsageError, match=r"'cabel' is unknown; accepted: cable, .* Did you mean 'cable'"):
        add_foreign_objects(flat()[0], seed=0, key="x", kinds=["cabel"])


@pytest.mark.parametrize(
    ("image", "labels", "strength", "text"),
    [
        (np.zeros((9, 9)), np.zeros((9, 9)), 1.0, r"float64 of shape \(9, 9\); uint8"),
        (np.zeros((9, 9, 2), np.uint8), np.zeros((9, 9)), 1.0, r"shape \(9, 9, 2\)"),
        (np.zeros((9, 9), np.uint8), np.zeros((9, 8)), 1.0, r"labels have shape \(9, 8\)"),
        (np.zeros((9, 9), np.uint8), np.zeros((9, 9)), -1.0, "strength -1.0"),
        (np.zeros((9, 9), np.uint8), np.zeros((9, 9)), float("nan"), "strength nan"),
    ],
)
def test_what_does_not_fit_is_refused(image, labels, strength, text):
    with pytest.raises(UsageError, match=text):
        simulate_portable(image, labels, seed=0, key="x", strength=strength)
