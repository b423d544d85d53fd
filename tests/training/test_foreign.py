from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from xferlab.training.foreign import _coverage, lay_on
from xferlab.training.learner import AugmentationSeed

KEYS = np.random.default_rng(0).integers(0, 2**64, 300, dtype=np.uint64)
HEIGHT, WIDTH = 96, 80
DRAW = AugmentationSeed(seed=1, epoch=1)


def laid(
    level: float = 0.0,
    *,
    most: int = 1,
    keys=KEYS,
    size: tuple[int, int] = (HEIGHT, WIDTH),
) -> np.ndarray:
    return lay_on(torch.full((len(keys), 1, *size), level), keys, DRAW, most=most)[:, 0].numpy()


def test_none_to_most_objects_are_equally_likely():
    drawn = laid(most=1).any(axis=(1, 2))
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.1)
    counts = [ndimage.label(image, np.ones((3, 3)))[1] for image in laid(most=3)]
    assert max(counts) == 3
    assert np.mean(np.array(counts) == 0) == pytest.approx(0.25, abs=0.1)
    assert not laid(most=0).any()


def test_objects_brighten_in_part_and_never_beyond_white():
    for level in (0.0, 100.0, 255.0):
        images = laid(level, most=3)
        assert images.min() >= level
        assert images.max() <= 255.0
    share = laid(0.0, most=3) / 255
    assert np.abs(laid(100.0, most=3) - (100 + 155 * share)).max() < 1e-3  # the same opacity on any grey


def test_lines_start_at_an_edge_and_discs_are_round_and_inside():
    lines = discs = 0
    for image in laid(most=1, keys=KEYS[:150], size=(240, 200)):
        if not image.any():
            continue
        touched = image > 0.5 * image.max()
        outline = np.concatenate([touched[0], touched[-1], touched[:, 0], touched[:, -1]])
        rows, columns = np.nonzero(touched)
        tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
        if abs(tall - wide) <= 1 and touched.sum() / (tall * wide) > 0.6 and not outline.any():
            discs += 1
            assert touched.sum() / (tall * wide) < 0.95
            assert 0.03 * 200 - 1.5 < wide < 0.1 * 200 + 1.5
        else:
            lines += 1
            assert (image > 0)[[0, -1]].any() or (image > 0)[:, [0, -1]].any()
    assert lines / (lines + discs) == pytest.approx(0.6, abs=0.15)


def test_the_area_of_a_disc_is_that_of_its_radius():
    """The soft edge neither adds nor takes: coverage sums to the area."""
    for radius in (3.0, 7.3, 11.0):
        disc = torch.tensor([[40.2, 33.7, 40.2, 33.7, radius, 0.5]])
        cover = _coverage(disc, torch.zeros(1, 1, HEIGHT, WIDTH))
        assert float(cover.sum()) == pytest.approx(0.5 * np.pi * radius**2, rel=0.02)


def test_a_line_is_as_wide_as_it_says_and_runs_between_its_ends():
    line = torch.tensor([[0.0, 10.0, 50.0, 60.0, 2.0, 1.0]])
    cover = _coverage(line, torch.zeros(1, 1, HEIGHT, WIDTH))[0, 0].numpy()
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    along = ((rows - 0) * 50 + (columns - 10) * 50) / 5000
    distance = np.abs((rows - 0) - (columns - 10)) / np.sqrt(2)
    middle = (along > 0.1) & (along < 0.9)
    assert (cover[middle & (distance < 1.5)] == 1).all()
    assert (cover[distance > 2.5] == 0).all()
    assert (cover[along > 1.1] == 0).all()


def test_a_larger_image_has_the_same_objects_larger():
    small = lay_on(torch.zeros(20, 1, 32, 32), KEYS[:20], DRAW, most=2)
    large = lay_on(torch.zeros(20, 1, 256, 256), KEYS[:20], DRAW, most=2)
    shrunk = torch.nn.functional.avg_pool2d(large, 8)
    differing = (shrunk - small).abs().mean(dim=(1, 2, 3))
    # One soft pixel at the edge of a thin line is what remains.
    assert float(differing.max()) < 20
    assert torch.equal(small.amax(dim=(1, 2, 3)) > 0, large.amax(dim=(1, 2, 3)) > 0)
