import numpy as np
import pytest

from xferlab.phantoms.fields import ellipse, largest_component, noise, octaves, soft


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
