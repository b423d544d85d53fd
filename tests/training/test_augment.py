from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from xferlab.training.augment import mirror, rotate, rotation_angles

KEYS = np.random.default_rng(0).integers(0, 2**63, 4000).astype(np.uint64)


def picture(height: int = 33, width: int = 33, *, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(height, width))
    return ndimage.gaussian_filter(noise, 1.0).astype(np.float32) * 100 - 7


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    images = torch.from_numpy(image)[None, None]
    return rotate(images, torch.zeros_like(images), np.array([degrees]))[0][0, 0].numpy()


def disc(height: int, width: int, *, share: float = 1.0) -> np.ndarray:
    """Pixels that a rotation never takes out of the image, two pixels from its edge."""
    rows, columns = np.mgrid[:height, :width]
    radius = (min(height, width) / 2 - 2) * share
    return (rows - (height - 1) / 2) ** 2 + (columns - (width - 1) / 2) ** 2 < radius**2


@pytest.mark.parametrize("size", [8, 9])
def test_a_quarter_turn_is_counter_clockwise_as_displayed(size):
    image = picture(size, size)
    assert np.allclose(turned(image, 90.0), np.rot90(image), atol=1e-4)
    targets = torch.from_numpy(
        np.random.default_rng(1).choice([0.0, 127.0, 255.0], (1, 1, size, size)).astype("f")
    )
    labels = rotate(torch.from_numpy(image)[None, None], targets, np.array([90.0]))[1]
    assert np.array_equal(labels[0, 0].numpy(), np.rot90(targets[0, 0].numpy()))


def test_each_image_turns_by_its_own_angle_and_0_leaves_it_as_it_is():
    images = torch.from_numpy(np.stack([picture(seed=seed) for seed in range(3)]))[:, None]
    targets, angles = (images > 0).float() * 255, np.array([10.0, -5.0, 0.0])
    together, labels = rotate(images, targets, angles)
    for image, out, angle in zip(images, together, angles, strict=True):
        assert np.allclose(out[0].numpy(), turned(image[0].numpy(), angle), atol=1e-4)
    assert torch.allclose(together[2], images[2], atol=1e-4)
    assert torch.equal(labels[2], targets[2])
    assert not torch.allclose(together[0], images[0], atol=1.0)
    same, same_labels = rotate(images, targets, np.zeros(3))
    assert torch.equal(same, images)
    assert torch.equal(same_labels, targets)


def test_what_comes_in_from_outside_is_the_minimum_of_its_image_and_background():
    images = torch.from_numpy(np.stack([picture(seed=0), picture(seed=1) + 500]))[:, None]
    targets = torch.full_like(images, 255.0)
    out, labels = rotate(images, targets, np.array([30.0, 30.0]))
    corners = np.ix_([0, -1], [0, -1])
    for row in range(2):
        assert np.allclose(out[row, 0].numpy()[corners], float(images[row].min()), atol=1e-3)
        assert (labels[row, 0].numpy()[corners] == 0).all()
    assert float(out[0].min()) >= float(images[0].min()) - 1e-3


def test_labels_stay_labels_and_follow_the_image():
    image = np.zeros((41, 41), np.float32)
    image[8:20, 10:30] = 255
    images = torch.from_numpy(image)[None, None]
    out, labels = rotate(images, images, np.array([17.0]))
    assert set(labels.unique().tolist()) == {0.0, 255.0}
    assert ((out > 127.5) == (labels > 127.5)).float().mean() > 0.98


def test_channels_turn_together():
    image = picture()
    images = torch.from_numpy(np.stack([image, image * 2, image - 1]))[None]
    out = rotate(images, images[:, :1], np.array([10.0]))[0][0].numpy()
    inside = disc(33, 33)
    assert np.allclose(out[1][inside], 2 * out[0][inside], atol=1e-3)
    assert np.allclose(out[2][inside], out[0][inside] - 1, atol=1e-3)


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.25])
@pytest.mark.parametrize("degrees", [0.0, 3.7, -10.0, 45.0, 120.0])
@pytest.mark.parametrize(("height", "width"), [(33, 33), (40, 28)])
def test_turns_and_magnifies_as_scipy_does(scale, degrees, height, width):
    image = torch.from_numpy(picture(height, width))[None, None]
    angle = np.deg2rad(degrees)
    # From where a pixel comes: back by the angle and by the scale, about the centre, rows downwards.
    back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / scale
    centre = (np.array([height, width]) - 1) / 2
    expected = ndimage.affine_transform(
        image[0, 0].numpy(), back, centre - back @ centre, order=1, cval=float(image.min())
    )
    moved, _ = rotate(image, image, np.array([degrees]), np.array([scale]))
    inside = disc(height, width, share=min(1.0, scale))
    assert np.abs(moved[0, 0].numpy() - expected)[inside].max() < 1e-3 * float(np.ptp(image.numpy()))


def test_scale_1_is_the_rotation_bit_for_bit():
    images, angles = torch.rand(6, 1, 24, 20), np.array([0.0, 3.0, -9.5, 10.0, 0.0, 7.7])
    targets = (images > 0.5).float()
    for one, other in zip(
        rotate(images, targets, angles), rotate(images, targets, angles, np.ones(6)), strict=True
    ):
        assert one.equal(other)


def test_what_a_smaller_picture_leaves_is_filled_as_in_the_rotation():
    images = torch.from_numpy(picture(32, 32))[None, None] + 50
    moved, labels = rotate(images, torch.full_like(images, 255.0), np.zeros(1), np.array([0.5]))
    assert moved[0, 0, :7].numpy() == pytest.approx(float(images.min()), abs=1e-3)
    assert (labels[0, 0, :7] == 0).all()
    assert float((labels == 255).float().mean()) == pytest.approx(0.25, abs=0.03)


def test_mirrors_those_chosen_and_no_others():
    images, targets = torch.rand(3, 2, 4, 5), torch.rand(3, 1, 4, 5)
    moved, labels = mirror(images, targets, np.array([True, False, True]))
    assert moved[1].equal(images[1])
    assert labels[1].equal(targets[1])
    assert moved[2].equal(images[2].flip(-1))
    assert labels[0].equal(targets[0].flip(-1))
    assert mirror(images, targets, np.zeros(3, bool))[0] is images


def draw(**changed) -> np.ndarray:
    return rotation_angles(KEYS, **({"degrees": 10.0, "probability": 0.75, "seed": 1, "epoch": 1} | changed))


def test_three_quarters_of_the_samples_turn_uniformly_by_up_to_ten_degrees():
    angles = draw()
    kept = angles[angles != 0]
    assert len(kept) / len(angles) == pytest.approx(0.75, abs=0.03)
    assert stats.kstest(kept, stats.uniform(-10, 20).cdf).pvalue > 0.001
    assert not draw(probability=0.0).any()
    assert draw(probability=1.0).all()
    # Whether and how far are independent.
    assert np.abs(np.corrcoef(angles != 0, draw(probability=1.0))[0, 1]) < 0.07


def test_angles_belong_to_the_case_and_are_drawn_anew_in_each_epoch_and_for_each_seed():
    order = np.random.default_rng(1).permutation(len(KEYS))
    mixed = rotation_angles(KEYS[order], degrees=10.0, probability=0.75, seed=1, epoch=1)
    assert np.array_equal(mixed, draw()[order])
    for other in (draw(epoch=2), draw(seed=2)):
        assert (draw() == other).mean() < 0.1
        assert abs(np.corrcoef(draw(), other)[0, 1]) < 0.07
