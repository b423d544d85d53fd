from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from tests.training.images import STRONG
from xferlab.training.augment import Augmentation
from xferlab.training.degradation import blur, degrade, gamma
from xferlab.training.learner import AugmentationSeed

RANDOM = np.random.default_rng(0)
KEYS = RANDOM.integers(0, 2**64, 12, dtype=np.uint64)
SMOOTH = ndimage.gaussian_filter(RANDOM.normal(size=(12, 40, 32)), (0, 3, 3))
GREY = torch.from_numpy((np.clip(SMOOTH * 6 + 0.5, 0, 1) * 255).astype(np.uint8))[:, None]
DRAW = AugmentationSeed(seed=1, epoch=1)


def exposed(options: Augmentation, rows=range(12), *, draw: AugmentationSeed = DRAW) -> np.ndarray:
    chosen = list(rows)
    return degrade(GREY[chosen], KEYS[chosen], options, draw).numpy()


@pytest.mark.parametrize("options", [Augmentation(), Augmentation(scale=(0.5, 2.0), flip=1.0)])
def test_with_nothing_on_images_are_the_same_object(options):
    assert degrade(GREY, KEYS, options, DRAW) is GREY


PARTS = {
    "objects": Augmentation(objects=3),
    "blur": Augmentation(blur=1.5),
    "noise": Augmentation(noise=0.05),
    "gamma": Augmentation(gamma=(0.7, 1.5)),
    "strong": STRONG,
}
each_part = pytest.mark.parametrize("options", PARTS.values(), ids=PARTS)


@each_part
def test_a_case_is_exposed_alike_in_any_batch_and_anew_in_each_epoch(options):
    together = exposed(options)
    for row in range(12):
        assert np.array_equal(exposed(options, [row])[0], together[row])
    assert np.array_equal(exposed(options, [7, 3, 9]), together[[7, 3, 9]])
    for other in (AugmentationSeed(1, 2), AugmentationSeed(2, 1)):
        changed = [
            not np.array_equal(*pair) for pair in zip(exposed(options, draw=other), together, strict=True)
        ]
        assert np.mean(changed) > 0.5


@each_part
def test_grey_levels_stay_grey_levels(options):
    before, state = GREY.clone(), torch.get_rng_state()
    degraded = exposed(options)
    assert GREY.equal(before)
    assert torch.get_rng_state().equal(state)
    assert degraded.dtype == np.float32
    assert degraded.shape == GREY.shape
    assert degraded.min() >= 0
    assert degraded.max() <= 255
    assert not np.array_equal(degraded, GREY.numpy())
    if options.gamma is None:
        assert np.array_equal(degraded, np.rint(degraded))


def test_blurs_as_scipy_does():
    sigmas = np.array([0.0, 0.4, 1.0, 2.0])
    images = torch.from_numpy(RANDOM.random((4, 2, 33, 21), dtype=np.float32) * 255)
    degraded = blur(images, sigmas, reach=6).numpy()
    assert np.array_equal(degraded[0], images[0].numpy())
    for row, sigma in enumerate(sigmas):
        for channel in range(2):
            # radius is where SciPy and we cut the kernel off
            expected = ndimage.gaussian_filter(
                images[row, channel].double().numpy(), sigma, mode="nearest", radius=int(3 * sigma)
            )
            assert np.abs(degraded[row, channel] - expected).max() < 1e-3


def test_gamma_is_the_power_of_shares():
    exponents = np.array([0.5, 1.0, 2.0])
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(3, 1, -1, -1)
    degraded = gamma(levels, exponents).numpy()
    for row, exponent in enumerate(exponents):
        expected = 255 * (np.arange(256) / 255) ** exponent
        assert np.abs(degraded[row].flatten() - expected).max() < 1e-4
    assert (degraded[:, 0, 0, 0] == 0).all()
    assert (degraded[:, 0, -1, -1] == 255).all()


def test_exponents_are_uniform_in_their_logarithm():
    keys = RANDOM.integers(0, 2**64, 3000, dtype=np.uint64)
    images = torch.full((3000, 1, 1, 1), 128, dtype=torch.uint8)
    degraded = degrade(images, keys, Augmentation(gamma=(0.7, 1.5)), DRAW).double().numpy().flatten()
    exponents = np.log(degraded / 255) / np.log(128 / 255)
    low, high = np.log([0.7, 1.5])
    assert stats.kstest(np.log(exponents), stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_the_deviation_of_the_noise_is_uniform_up_to_its_bound():
    keys = RANDOM.integers(0, 2**64, 400, dtype=np.uint64)
    images = torch.full((400, 1, 40, 40), 128, dtype=torch.uint8)
    degraded = degrade(images, keys, Augmentation(noise=0.05), DRAW).numpy()
    deviations = np.sqrt(np.maximum(degraded.var(axis=(1, 2, 3)) - 1 / 12, 0))  # less the rounding's
    assert stats.kstest(deviations, stats.uniform(0, 0.05 * 255).cdf).pvalue > 1e-3
    assert np.abs(degraded.mean(axis=(1, 2, 3)) - 128).max() < 2


def test_channels_get_the_same_noise():
    images = torch.full((3, 3, 8, 8), 100, dtype=torch.uint8)
    degraded = degrade(images, KEYS[:3], STRONG, DRAW)
    assert degraded[:, :1].expand(-1, 3, -1, -1).equal(degraded)
