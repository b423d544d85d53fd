"""Masks of another stage fall on the pixels of the image where they belong, at any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xferlab.data.cache import resized
from xferlab.data.sources.source import Decoded
from xferlab.training.examples import ImageExamples, NativeExamples, Pixels, Untargeted

CPU = torch.device("cpu")
HEIGHT, WIDTH = 90, 60


class Planes:
    """Masks as a network of another size predicted them, two structures a case."""

    structures = ("left", "right")

    def __init__(self, *cases: Pixels):
        self.cases = cases

    def of(self, row: int) -> Pixels:
        return self.cases[row]


def ellipse(height: int, width: int, *, x: float, y: float = 0.4) -> Pixels:
    """An ellipse whose centre and axes are shares of the sides, 255 inside."""
    rows, columns = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    inside = ((rows[:, None] - y) / 0.3) ** 2 + ((columns[None] - x) / 0.15) ** 2 < 1
    return np.where(inside, 255, 0).astype(np.uint8)


def both(height: int, width: int) -> Pixels:
    return np.stack([ellipse(height, width, x=0.3), ellipse(height, width, x=0.7)])


def at_size(size: int, masks: Planes) -> ImageExamples:
    image = both(HEIGHT, WIDTH).max(axis=0)
    pixels, targets = resized(Decoded(image, both(HEIGHT, WIDTH)), size)
    rows = np.zeros(len(masks.cases), np.intp)
    spacing = np.full((1, 2), np.nan, np.float32)
    structures = masks.structures
    cases = ImageExamples(
        ["0"] * len(rows), pixels[None], targets[None], spacing, structures=structures, rows=rows, device=CPU
    )
    cases.masks = masks
    return cases


@pytest.mark.parametrize("size", [16, 24, 31, 64, 200])
def test_masks_of_the_native_size_are_resized_as_targets_are(size: int) -> None:
    cases = at_size(size, Planes(both(HEIGHT, WIDTH)))
    assert np.array_equal(cases.masks_of(0), cases.case(0)[1])


@pytest.mark.parametrize("size", [16, 24, 64])
@pytest.mark.parametrize("predicted", [(32, 32), (48, 48), (HEIGHT, WIDTH), (128, 64)])
def test_masks_of_another_size_cover_what_they_mark(size: int, predicted: tuple[int, int]) -> None:
    """At most a pixel of the coarser grid lies between a predicted edge and the true one."""
    cases = at_size(size, Planes(both(*predicted)))
    masks, targets = cases.masks_of(0), cases.case(0)[1]
    for mask, target, x in zip(masks, targets, (0.3, 0.7), strict=True):
        overlap = 2 * np.sum((mask > 0) & (target > 0)) / (np.sum(mask > 0) + np.sum(target > 0))
        assert overlap > 1 - 8 / min(size, *predicted)
        rows, columns = np.nonzero(mask)
        assert (rows.mean() + 0.5) / size == pytest.approx(0.4, abs=1 / min(size, *predicted))
        assert (columns.mean() + 0.5) / size == pytest.approx(x, abs=1 / min(size, *predicted))


def test_at_native_size_each_predicted_pixel_becomes_a_block() -> None:
    planes = np.random.default_rng(1).choice(np.array([0, 255], np.uint8), (2, HEIGHT // 3, WIDTH // 4))
    image = np.zeros((1, HEIGHT, WIDTH), np.uint8)
    cases = NativeExamples(["0"], Untargeted([image]), structures=("",), rows=np.arange(1), device=CPU)
    cases.masks = Planes(planes)
    assert np.array_equal(cases.masks_of(0), planes.repeat(3, axis=1).repeat(4, axis=2))


def test_batches_have_the_masks_of_their_rows() -> None:
    first, second = both(32, 32), both(32, 32)[::-1].copy()
    cases = at_size(32, Planes(first, second))
    taken = cases.take_masks(np.array([1, 0, 1]))
    assert taken.dtype == torch.uint8
    assert np.array_equal(taken.numpy(), [second, first, second])
