"""Tiles in training and prediction: cut from the image as a whole, stitched without seams."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.images import STRONG, Images, images_of, native
from xferlab.networks.build import build
from xferlab.tasks.segmentation.native import NativeSegmentation
from xferlab.tasks.segmentation.resized import ResizedSegmentation
from xferlab.tasks.segmentation.sections import Tiling
from xferlab.tasks.segmentation.tiled import VALIDATION_TILES, TiledSegmentation
from xferlab.training.augment import Augmentation
from xferlab.training.intensity import normalise
from xferlab.training.learner import AugmentationSeed

SIZES = [(100, 140), (200, 90), (64, 64), (150, 150)]


def view_of(size: int = 32, *, overlap: float = 0.5, hit: float = 0.75, **base: Any) -> TiledSegmentation:
    return TiledSegmentation(
        ResizedSegmentation(in_channels=1, **base), Tiling(size=size, overlap=overlap, hit=hit)
    )


def local_network(radius: int) -> nn.Module:
    """A network that sees no farther than `radius` px, with random weights."""
    torch.manual_seed(1)
    layers: list[nn.Module] = [nn.Conv2d(1, 6, 3, padding=1)]
    for _ in range(radius - 1):
        layers += [nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(6, 1, 1)).eval()


def unet(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build("unet", in_channels=1, out_channels=1, init_features=2).eval()


@pytest.mark.parametrize(("size", "overlap"), [(64, 0.5), (96, 0.3)])
def test_stitched_tiles_are_the_whole_image_where_context_is_equal(size: int, overlap: float) -> None:
    radius = int(size * overlap) // 4  # what `blend_weights` leaves out beside another tile
    sizes = [(100, 140), (200, 90), (65, 300), (16, 16), (1, 70), (64, 64)]
    examples, rows = native(images_of(sizes)), np.arange(len(sizes))
    model, tiled = local_network(radius), view_of(size, overlap=overlap)
    whole = NativeSegmentation(tiled.base)
    stitched = tiled.predict(model, tiled.batch(examples, rows, None))
    expected = whole.predict(model, whole.batch(examples, rows, None))
    for row, shape in enumerate(sizes):
        assert stitched[row].shape == (1, *shape)
        assert np.ptp(expected[row]) > 0 or shape == (16, 16)
        inner = np.s_[:, : shape[0] - radius, : shape[1] - radius]
        if min(shape) < size:  # padded farther than the whole image, so the lower and right borders differ
            assert np.abs(stitched[row][inner] - expected[row][inner]).max(initial=0.0) < 3e-6
        else:
            assert np.abs(stitched[row] - expected[row]).max() < 3e-6


def test_tiles_to_train_on_are_cut_from_the_normalised_whole() -> None:
    images = images_of(SIZES)
    examples, rows, draw = native(images), np.arange(4), AugmentationSeed(seed=2, epoch=7)
    tiled = view_of(32)
    (part,) = tiled.batch(examples, rows, draw).parts
    places = tiled.drawn(examples, rows, draw, hit=tiled.tiles.hit)
    for row, (top, left) in enumerate(places):
        whole = normalise(torch.from_numpy(images.images[row])[None], "zscore")[0]
        assert torch.equal(part.inputs[row], whole[:, top : top + 32, left : left + 32])
        cut = images.targets[row][top : top + 32, left : left + 32]
        assert (part.target[row, 0].numpy() == (cut == 255)).all()
        assert (part.valid[row, 0].numpy() == (cut != 127)).all()


@pytest.mark.parametrize("degrees", [10.0, 45.0, 180.0])
@pytest.mark.parametrize("scale", [None, (0.7, 1.2)])
def test_nothing_is_filled_in_where_the_image_goes_on(degrees: float, scale: Any) -> None:
    count = 24
    image = np.full((1, 300, 300), 200, np.uint8)
    image[0, 0, 0] = 0  # the minimum, which a fill would bring
    images = Images([image] * count, [np.full((300, 300), 255, np.uint8)] * count)
    examples, rows = native(images), np.arange(count)
    tiled = view_of(32, rotation=(degrees, 1.0), augmentation=Augmentation(scale=scale, flip=0.5))
    inner = 0
    for epoch in range(1, 4):
        draw = AugmentationSeed(seed=1, epoch=epoch)
        (part,) = tiled.batch(examples, rows, draw).parts
        assert part.inputs.shape == (count, 1, 32, 32)
        places = tiled.drawn(examples, rows, draw, hit=tiled.tiles.hit)
        for row in np.flatnonzero(((places > 40) & (places < 300 - 72)).all(axis=1)):
            inner += 1
            assert (part.target[row] == 1).all()
            assert (part.valid[row] == 1).all()
            assert float(part.inputs[row].max() - part.inputs[row].min()) < 1e-4
    assert inner > count


def test_outside_of_a_small_image_counts_nowhere() -> None:
    sizes = [(1, 1), (10, 200), (200, 3), (40, 40)]
    images = images_of(sizes)
    examples, rows = native(images), np.arange(4)
    tiled = view_of(64, rotation=(10.0, 1.0))
    (part,) = tiled.batch(examples, rows, AugmentationSeed(1, 1)).parts
    for row, (height, width) in enumerate(sizes):
        seen = min(height, 64) * min(width, 64)
        assert part.valid[row].sum() <= seen * 1.3 + 8
        assert torch.isfinite(part.inputs[row]).all()
    assert torch.isfinite(tiled.loss(unet(), tiled.batch(examples, rows, None)))


@pytest.mark.parametrize("augmentation", [None, STRONG])
def test_tiles_have_no_state(augmentation: Any) -> None:
    examples, rows, draw = native(images_of(SIZES)), np.arange(4), AugmentationSeed(3, 2)
    tiled = view_of(32, rotation=(10.0, 1.0), augmentation=augmentation)
    (together,) = tiled.batch(examples, rows, draw).parts
    (again,) = tiled.batch(native(images_of(SIZES)), rows[::-1].copy(), draw).parts
    assert torch.allclose(together.inputs.flip(0), again.inputs, atol=1e-5)
    assert torch.equal(together.target.flip(0), again.target)
    (other,) = tiled.batch(examples, rows, AugmentationSeed(3, 3)).parts
    assert not torch.equal(other.inputs, together.inputs)


def test_validation_is_the_mean_over_fixed_tiles() -> None:
    examples, rows = native(images_of(SIZES)), np.arange(4)
    tiled, model = view_of(32, rotation=(10.0, 1.0), augmentation=STRONG), unet()
    batch, again = (tiled.batch(examples, rows, None) for _ in range(2))
    assert len(batch.parts) == VALIDATION_TILES
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(batch.parts, again.parts, strict=True))
    assert not torch.equal(batch.parts[0].inputs, batch.parts[1].inputs)
    other_hit = view_of(32, hit=1.0).batch(examples, rows, None)
    assert torch.equal(batch.parts[0].inputs, other_hit.parts[0].inputs)
    losses = [float(tiled.base.loss(model, part).detach()) for part in batch.parts]
    assert float(tiled.loss(model, batch).detach()) == pytest.approx(np.mean(losses))
