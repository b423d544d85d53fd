from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from xferlab.training.learner import AugmentationSeed
from xferlab.training.noise import normal_pixels
from xferlab.training.randomness import bits

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
