"""Images under the mean histogram, or the mean low-frequency amplitude, of the training images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xferlab.training.reference import REFERENCES, MatchedHistogram, MeanAmplitude, Reference

SIDE = 32
DRAWN = np.random.default_rng(0)
TRAINING = torch.from_numpy(DRAWN.integers(40, 200, (6, 1, SIDE, SIDE), dtype=np.uint8))
DARK = torch.from_numpy((DRAWN.random((4, 1, SIDE, SIDE)) ** 3 * 90).astype(np.uint8)).float()


def learnt(name: str, images: Tensor = TRAINING, batch: int = 4) -> Reference:
    reference = REFERENCES[name](images.shape[-1])
    reference.learn(images.split(batch))
    return reference


def shares(levels: np.ndarray) -> np.ndarray:
    return np.bincount(levels.astype(int).ravel(), minlength=256).cumsum() / levels.size


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 256), st.integers(1, 256))
@settings(max_examples=40, deadline=None)
def test_the_histogram_is_the_references_but_for_ties(seed, side, levels, others):
    drawn = np.random.default_rng(seed)
    training = torch.from_numpy(drawn.integers(0, others, (3, 1, side, side), dtype=np.uint8))
    image = drawn.integers(0, levels, (1, 1, side, side), dtype=np.uint8)
    reference = learnt("matched", training)
    result = (reference(torch.from_numpy(image).float()) * 255).round().numpy()
    missing = shares(training.numpy()) - shares(result)
    ties = np.bincount(image.ravel()).max() / image.size
    assert missing.min() > -1e-9
    assert missing.max() < ties + 1e-9
    # Order is kept, a matched image stays as it is, and no increasing curve of its levels matters.
    order = np.argsort(image, axis=None, kind="stable")
    assert (np.diff(result.flatten()[order]) >= 0).all()
    assert np.array_equal((reference(torch.from_numpy(result)) * 255).round().numpy(), result)
    ranks = np.unique(image, return_inverse=True)[1].reshape(image.shape).astype(np.float32)
    assert np.array_equal((reference(torch.from_numpy(ranks)) * 255).round().numpy(), result)


def test_an_image_of_the_references_histogram_stays_as_it_is():
    image = TRAINING[:1].float()
    assert learnt("matched", TRAINING[:1])(image).equal(image / 255)


def test_low_amplitudes_are_the_references_and_phases_and_high_frequencies_the_images():
    reference = learnt("amplitude")
    assert isinstance(reference, MeanAmplitude)
    before = np.fft.fft2(DARK.numpy() / 255.0)
    after = np.fft.fft2(reference(DARK).double().numpy())
    wanted = np.abs(np.fft.fft2(TRAINING.numpy() / 255.0)).mean(axis=0)
    cycles = np.abs(np.fft.fftfreq(SIDE) * SIDE)
    low = np.maximum.outer(cycles, cycles) <= 1
    assert low.sum() == 9
    assert np.abs(after[..., ~low] - before[..., ~low]).max() < 1e-4
    for row in range(len(DARK)):
        assert np.abs(after[row, 0][low]) == pytest.approx(wanted[0][low], rel=1e-4)
        assert np.abs(np.angle(after[row, 0] / before[row, 0])[low]).max() < 1e-4


@pytest.mark.parametrize(("side", "cycles"), [(16, 1), (96, 1), (256, 2), (512, 5)])
def test_low_frequencies_are_a_hundredth_of_the_side(side, cycles):
    assert MeanAmplitude(side).amplitude.shape == (2 * cycles + 1, cycles + 1)


@pytest.mark.parametrize("name", REFERENCES)
def test_images_are_for_themselves_and_batches_do_not_matter(name):
    reference = learnt(name)
    assert learnt(name, batch=1)(DARK).equal(reference(DARK))
    assert torch.cat([reference(image[None]) for image in DARK]).equal(reference(DARK))
    assert torch.isfinite(reference(torch.zeros(1, 1, SIDE, SIDE))).all()


def test_until_it_is_learnt_the_histogram_is_flat_and_amplitudes_stay():
    ramp = torch.arange(256.0).reshape(1, 1, 16, 16)
    assert MatchedHistogram(16)(ramp).equal(ramp / 255)
    assert (MeanAmplitude(SIDE)(DARK) - DARK / 255).abs().max() < 1e-6
