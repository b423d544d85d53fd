"""Grey values: how they are normalised, and the noise that augmentation adds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import rankdata

from xferlab.training.degradation import normal_pixels
from xferlab.training.intensity import INTENSITIES, normalise
from xferlab.training.learner import AugmentationSeed
from xferlab.training.randomness import bits

GREY = np.random.default_rng(0).integers(0, 256, (5, 2, 24, 20), dtype=np.uint8)
GREY[1] //= 4
GREY[2] = GREY[2] // 2 + 100


def normalised(images: np.ndarray, intensity: str) -> np.ndarray:
    return normalise(torch.from_numpy(images), intensity).numpy()


def test_zscore_unit_and_raw_are_what_they_were_bit_for_bit():
    values = torch.from_numpy(GREY).float()
    deviation, mean = torch.std_mean(values, dim=(2, 3), correction=0, keepdim=True)
    assert normalise(torch.from_numpy(GREY), "zscore").equal((values - mean) / deviation.clamp_min(1.0))
    assert normalise(torch.from_numpy(GREY), "unit").equal(values / 255.0)
    assert normalise(torch.from_numpy(GREY), "raw").equal(values)


def test_minmax_stretches_each_image_and_channel():
    values = normalised(GREY, "minmax")
    assert (values.min(axis=(2, 3)) == 0).all()
    assert (values.max(axis=(2, 3)) == 1).all()
    low, high = (getattr(GREY, bound)(axis=(2, 3), keepdims=True).astype(float) for bound in ("min", "max"))
    assert np.abs(values - (GREY - low) / (high - low)).max() < 1e-6


def equalised_by_scipys_ranks(image: np.ndarray) -> np.ndarray:
    """The share of pixels that are at most as bright, from ranks, then gamma 0.5 of 0..255 over 255."""
    level = 255.0 * rankdata(image, method="max").reshape(image.shape) / image.size
    return 255.0 * (level / 255.0) ** 0.5 / 255.0


def test_equalise_is_the_share_at_most_as_bright_and_its_root():
    values = normalised(GREY, "equalise")
    for image, expected in zip(values.reshape(-1, 24, 20), GREY.reshape(-1, 24, 20), strict=True):
        assert np.abs(image - equalised_by_scipys_ranks(expected)).max() < 1e-6


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 256))
@settings(max_examples=40, deadline=None)
def test_equalise_keeps_order_and_forgets_curves(seed, side, levels):
    image = np.random.default_rng(seed).integers(0, levels, (1, 1, side, side), dtype=np.uint8)
    values = normalised(image, "equalise")
    order = np.argsort(image, axis=None, kind="stable")
    assert (np.diff(values.flatten()[order]) >= 0).all()
    assert values.max() == 1.0
    assert values.min() > 0
    # Any curve that keeps grey levels apart and in order changes nothing.
    ranks = np.unique(image, return_inverse=True)[1].reshape(image.shape)
    assert np.array_equal(normalised(ranks.astype(np.uint8), "equalise"), values)


@pytest.mark.parametrize("intensity", INTENSITIES)
def test_each_image_is_for_itself(intensity):
    together = normalised(GREY, intensity)
    for row in range(len(GREY)):
        assert np.array_equal(normalised(GREY[row : row + 1], intensity)[0], together[row])
    assert together.dtype == np.float32


@pytest.mark.parametrize("intensity", INTENSITIES)
@pytest.mark.parametrize("level", [0, 200])
def test_a_constant_image_gives_constant_finite_numbers(intensity, level):
    values = normalised(np.full((1, 1, 8, 8), level, np.uint8), intensity)
    expected = {"zscore": 0.0, "minmax": 0.0, "unit": level / 255, "raw": level, "equalise": 1.0}
    assert values == pytest.approx(expected[intensity])


@pytest.mark.parametrize("intensity", INTENSITIES)
def test_grey_levels_may_be_float(intensity):
    assert np.array_equal(normalised(GREY.astype(np.float32), intensity), normalised(GREY, intensity))


CPU = torch.device("cpu")
KEYS = np.random.default_rng(3).integers(0, 2**64, 6, dtype=np.uint64)
MASK = (1 << 32) - 1


def noise(keys=KEYS, *, draw=AugmentationSeed(1, 1), purpose="noise", size=(64, 64)) -> np.ndarray:  # noqa: B008
    return normal_pixels(keys, draw, purpose, size=size, device=CPU).numpy()


def by_hand(word: int, number: int) -> float:
    """The same in unbounded integers, and SciPy's quantile."""

    def mixed(value: int) -> int:
        value = (value ^ value >> 16) * 0x85EBCA6B & MASK
        value = (value ^ value >> 13) * 0xC2B2AE35 & MASK
        return value ^ value >> 16

    chosen = mixed(mixed(number + (word >> 32) & MASK) ^ word & MASK) >> 16
    return float(stats.norm.ppf((chosen + 0.5) / 65_536))


def test_a_pixel_is_the_hash_of_its_number():
    words = bits(KEYS, seed=1, purpose="noise", epoch=1)
    pixels = noise(size=(7, 9))
    assert pixels.shape == (6, 1, 7, 9)
    assert pixels.dtype == np.float32
    for row, word in enumerate(words.tolist()):
        expected = [by_hand(word, number) for number in range(63)]
        assert pixels[row].flatten() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_it_is_normal_and_white():
    pixels = noise(size=(128, 128))
    for image in pixels[:, 0]:
        assert stats.kstest(image.flatten(), stats.norm.cdf).pvalue > 1e-3
        spectrum = np.abs(np.fft.fft2(image)) ** 2 / image.size
        half = spectrum[1:64].flatten()  # the other half mirrors it
        assert half.mean() == pytest.approx(1.0, abs=0.05)
        assert half.max() < 20  # exponentially distributed: 8,000 draws reach 9 on average
        for other in (image[1:] * image[:-1], image[:, 1:] * image[:, :-1]):
            assert abs(other.mean()) < 5 / other.size**0.5


def test_cases_epochs_seeds_and_purposes_are_independent():
    one = noise()
    others = [
        noise(draw=AugmentationSeed(1, 2)),
        noise(draw=AugmentationSeed(2, 1)),
        noise(purpose="other"),
        np.roll(one, 1, axis=0),
    ]
    for other in others:
        for first, second in zip(one, other, strict=True):
            assert abs(np.corrcoef(first.flatten(), second.flatten())[0, 1]) < 5 / 64


@pytest.mark.gpu
def test_noise_has_the_same_bits_on_cuda():
    device = torch.device("cuda")
    pixels = normal_pixels(KEYS, AugmentationSeed(1, 1), "noise", size=(64, 64), device=device)
    assert np.array_equal(pixels.cpu().numpy(), noise())
