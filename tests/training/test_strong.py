"""The strong augmentation as the task applies it, and the geometry beside the rotation."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from xferlab.tasks.segmentation.resized import BinarySegmentation, ImageBatch, ImageExamples
from xferlab.training.augment import STRONG, Augmentation, mirror, rotate
from xferlab.training.degradation import degrade
from xferlab.training.intensity import normalise
from xferlab.training.learner import AugmentationSeed

pytestmark = pytest.mark.component

NUM, SIZE = 12, 32
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (NUM, 1, SIZE, SIZE), dtype=np.uint8)
TARGETS = RANDOM.choice(np.array([0, 127, 255], np.uint8), (NUM, SIZE, SIZE))
EXAMPLES = ImageExamples(
    tuple(hashlib.sha256(bytes([row])).hexdigest() for row in range(NUM)),
    IMAGES,
    TARGETS,
    np.full((NUM, 2), np.nan, np.float32),
    rows=np.arange(NUM),
    device=torch.device("cpu"),
)
DRAW = AugmentationSeed(seed=1, epoch=1)


def batch(rows=range(NUM), *, draw: AugmentationSeed | None = DRAW, **changed: Any) -> ImageBatch:
    task = BinarySegmentation(**{"in_channels": 1, "rotation": (10.0, 0.75), **changed})
    return task.batch(EXAMPLES, np.array(list(rows)), draw)


def equal(one: ImageBatch, other: ImageBatch) -> bool:
    return all(getattr(one, key).equal(getattr(other, key)) for key in ("inputs", "target", "valid"))


# --- in the task -----------------------------------------------------------------------------------


def test_off_is_as_if_it_were_not_there():
    assert equal(batch(augmentation=Augmentation()), batch())
    assert equal(batch(augmentation=Augmentation(flip=0.0, scale=(1.0, 1.0))), batch())


def test_validation_is_never_augmented():
    assert equal(batch(draw=None, augmentation=STRONG), batch(draw=None, rotation=None))


@pytest.mark.parametrize("intensity", ["zscore", "unit", "minmax", "equalise"])
@pytest.mark.parametrize("rotation", [None, (10.0, 0.75)])
def test_a_case_is_augmented_alike_in_any_batch(intensity, rotation):
    options = {"augmentation": STRONG, "intensity": intensity, "rotation": rotation}
    together = batch(**options)
    for rows in ([3], [11, 0, 5, 3], range(5, 12)):
        part = batch(rows, **options)
        for key in ("target", "valid"):
            assert getattr(part, key).equal(getattr(together, key)[list(rows)])
        torch.testing.assert_close(part.inputs, together.inputs[list(rows)], rtol=1e-5, atol=1e-5)
    assert equal(batch(**options), together)
    assert not batch(**options, draw=AugmentationSeed(1, 2)).inputs.equal(together.inputs)


def test_targets_do_not_know_of_the_exposure():
    found = batch(augmentation=Augmentation(objects=3, blur=1.0, noise=0.1, gamma=(0.5, 2.0)))
    plain = batch()
    assert found.target.equal(plain.target)
    assert found.valid.equal(plain.valid)
    assert not found.inputs.equal(plain.inputs)


def test_equalisation_forgets_gamma():
    # The only curve that 256 levels cannot undo is one that lets levels coincide; this one does not.
    found = batch(intensity="equalise", rotation=None, augmentation=Augmentation(gamma=(0.999, 1.001)))
    assert found.inputs.equal(batch(intensity="equalise", rotation=None).inputs)


def test_the_share_that_is_mirrored():
    always = batch(rotation=None, augmentation=Augmentation(flip=1.0))
    plain = batch(rotation=None)
    assert always.inputs.equal(plain.inputs.flip(-1))
    assert always.target.equal(plain.target.flip(-1))
    found = [
        batch(draw=AugmentationSeed(1, epoch), rotation=None, augmentation=Augmentation(flip=0.5))
        for epoch in range(40)
    ]
    share = [float((one.inputs == always.inputs).all(dim=(1, 2, 3)).float().mean()) for one in found]
    assert np.mean(share) == pytest.approx(0.5, abs=0.08)


@pytest.mark.gpu
@pytest.mark.parametrize("intensity", ["zscore", "minmax", "equalise"])
def test_cuda_agrees_with_deterministic_algorithms(intensity):
    def prepared(device: str) -> torch.Tensor:
        raw = torch.from_numpy(IMAGES).to(device)
        return normalise(degrade(raw, EXAMPLES.keys, STRONG, DRAW), intensity).cpu()

    torch.use_deterministic_algorithms(True)
    try:
        found, expected = prepared("cuda"), prepared("cpu")
    finally:
        torch.use_deterministic_algorithms(False)
    # A grey level here and there may be rounded the other way.
    assert float((found - expected).abs().mean()) < 1e-3


# --- geometry --------------------------------------------------------------------------------------


def picture(height: int, width: int) -> torch.Tensor:
    noise = np.random.default_rng(1).normal(size=(height, width))
    return torch.from_numpy(ndimage.gaussian_filter(noise, 2.0).astype(np.float32) * 100)[None, None]


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.25])
@pytest.mark.parametrize("degrees", [0.0, 12.0])
@pytest.mark.parametrize(("height", "width"), [(33, 33), (40, 28)])
def test_turns_and_magnifies_as_scipy_does(scale, degrees, height, width):
    image = picture(height, width)
    angle = np.deg2rad(degrees)
    # From where a pixel comes: back by the angle and by the scale, about the centre, rows downwards.
    back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / scale
    centre = (np.array([height, width]) - 1) / 2
    expected = ndimage.affine_transform(
        image[0, 0].numpy(), back, centre - back @ centre, order=1, cval=float(image.min())
    )
    found, _ = rotate(image, image, np.array([degrees]), np.array([scale]))
    inside = np.zeros((height, width), bool)
    inside[10:-10, 8:-8] = True
    assert np.abs(found[0, 0].numpy() - expected)[inside].max() < 1e-3 * float(np.ptp(image.numpy()))


def test_scale_1_is_the_rotation_bit_for_bit():
    images, angles = torch.rand(6, 1, 24, 20), np.array([0.0, 3.0, -9.5, 10.0, 0.0, 7.7])
    targets = (images > 0.5).float()
    for one, other in zip(
        rotate(images, targets, angles), rotate(images, targets, angles, np.ones(6)), strict=True
    ):
        assert one.equal(other)


def test_what_a_smaller_picture_leaves_is_filled_as_in_the_rotation():
    images = picture(32, 32) + 50
    found, labels = rotate(images, torch.full_like(images, 255.0), np.zeros(1), np.array([0.5]))
    assert found[0, 0, :7].numpy() == pytest.approx(float(images.min()), abs=1e-3)
    assert (labels[0, 0, :7] == 0).all()
    assert float((labels == 255).float().mean()) == pytest.approx(0.25, abs=0.03)


def test_mirrors_those_chosen_and_no_others():
    images, targets = torch.rand(3, 2, 4, 5), torch.rand(3, 1, 4, 5)
    found, labels = mirror(images, targets, np.array([True, False, True]))
    assert found[1].equal(images[1])
    assert labels[1].equal(targets[1])
    assert found[2].equal(images[2].flip(-1))
    assert labels[0].equal(targets[0].flip(-1))
    assert mirror(images, targets, np.zeros(3, bool))[0] is images
