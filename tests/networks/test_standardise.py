"""Standardisation by the training images: NumPy on all pixels is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.networks.test_image_networks import B4
from tests.networks.test_image_networks import NAMES as IMAGE_NETWORKS
from tests.networks.test_pretrained import published_file
from tests.training.learners import copied, same
from xferlab.networks.build import build, initialise
from xferlab.networks.inherit import fold_channels, inherit
from xferlab.networks.pretrained import Pretrained
from xferlab.networks.standardise import SMALLEST_DEVIATION, Standardise

pytestmark = pytest.mark.component


def drawn(count: int = 7) -> Tensor:
    """Images in 0..1, of means and deviations of their own."""
    generator = torch.Generator().manual_seed(4)
    scale = torch.rand(count, 1, 1, 1, generator=generator) + 0.1
    return torch.rand(count, 1, 9, 11, generator=generator) * scale


def learnt(mode: str, *batches: Tensor) -> Standardise:
    layer = Standardise(mode)  # type: ignore[arg-type]
    layer.learn(batches)
    return layer


def test_training_takes_mean_and_deviation_of_all_pixels():
    images = drawn()
    layer = learnt("training", images)
    pixels = images.numpy().astype(np.float64)
    assert float(layer.mean) == pytest.approx(pixels.mean(), rel=1e-6)
    assert float(layer.deviation) == pytest.approx(pixels.std(), rel=1e-6)
    for network in (layer.train(), layer.eval()):
        given = network(images).numpy()
        np.testing.assert_allclose(given, (pixels - pixels.mean()) / pixels.std(), rtol=1e-5, atol=1e-6)


def test_code_takes_each_image_by_its_own_in_training_and_the_means_of_these_otherwise():
    images = drawn()
    layer = learnt("code", images)
    pixels = images.numpy().astype(np.float64)
    means, deviations = pixels.mean(axis=(1, 2, 3)), pixels.std(axis=(1, 2, 3))
    assert float(layer.mean) == pytest.approx(means.mean(), rel=1e-6)
    assert float(layer.deviation) == pytest.approx(deviations.mean(), rel=1e-6)
    own = (pixels - means.reshape(-1, 1, 1, 1)) / deviations.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(layer.train()(images).numpy(), own, rtol=1e-4, atol=1e-5)
    of_all = (pixels - means.mean()) / deviations.mean()
    np.testing.assert_allclose(layer.eval()(images).numpy(), of_all, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["training", "code"])
def test_neither_batches_nor_their_order_matter(mode):
    images = drawn()
    expected = copied(learnt(mode, images))
    assert same(copied(learnt(mode, images[:3], images[3:])), expected)
    assert same(copied(learnt(mode, *images.flip(0).split(1))), expected)


@pytest.mark.parametrize("mode", ["training", "code"])
def test_blank_images_become_zeros(mode):
    blank = torch.full((3, 1, 4, 4), 0.5)
    layer = learnt(mode, blank)
    assert float(layer.deviation) == pytest.approx(SMALLEST_DEVIATION)
    assert bool((layer.train()(blank) == 0).all())
    assert bool((layer.eval()(blank) == 0).all())


def standardised(name: str, channels: int = 1, seed: int = 1) -> torch.nn.Module:
    network = build(
        name, in_channels=channels, out_channels=2, head=B4, standardise=Standardise(), width=None
    )
    initialise(network, seed)
    return network


@pytest.mark.parametrize("name", IMAGE_NETWORKS)
def test_networks_take_standardised_images_and_weights_hold_the_numbers(name):
    network = standardised(name).eval()
    plain = build(name, in_channels=1, out_channels=2, head=B4).eval()
    network.standardise.learn([drawn()])
    state = network.state_dict()
    numbers = {key for key in state if key.startswith("standardise.")}
    assert numbers == {"standardise.mean", "standardise.deviation"}
    plain.load_state_dict({key: value for key, value in state.items() if key not in numbers})
    images = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        assert network(images).equal(
            plain((images - network.standardise.mean) / network.standardise.deviation)
        )


def test_children_take_the_numbers_over_and_published_weights_leave_them(tmp_path):
    parent, child = standardised("resnet18", 3), standardised("resnet18", seed=2)
    parent.standardise.learn([drawn()])
    inherit(child, fold_channels(parent.state_dict(), "sum"), origin="x")
    assert child.standardise.mean.equal(parent.standardise.mean)
    taken = Pretrained("resnet18").start(parent, published_file("resnet18", tmp_path), origin="x")
    assert {"standardise.mean", "standardise.deviation"} <= set(taken.fresh)
    assert parent.standardise.mean.equal(child.standardise.mean)
