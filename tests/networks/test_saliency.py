"""Grad-CAM: against a hand-written one, alone and in a batch, at every network's last features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.networks.test_image_networks import NAMES as IMAGE_NETWORKS
from tests.networks.test_image_networks import images, seeded
from tests.training.learners import copied, same
from xferlab.errors import TaskError
from xferlab.networks.build import NAMES
from xferlab.networks.saliency import grad_cam

pytestmark = pytest.mark.component


class Tiny(nn.Module):
    """Two convolutions and a linear layer on the mean: derivatives can be written down."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 5, 3, padding=1, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.last = nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.relu(self.second(self.first(images))).mean(dim=(2, 3)))


def tiny() -> Tiny:
    torch.manual_seed(2)
    return Tiny().eval()


def drawn(count: int) -> Tensor:
    return torch.randn(count, 1, 8, 12, generator=torch.Generator().manual_seed(1))


def by_hand(network: Tiny, image: Tensor, number: int) -> Tensor:
    """At `second`: through ReLU and mean, the derivative at a pixel is w[class, k] / pixels where A > 0."""
    with torch.no_grad():
        level = network.second(network.first(image[None]))[0].double()
        slopes = network.last.weight[number].double()[:, None, None] * (level > 0) / level[0].numel()
        heat = (slopes.mean(dim=(1, 2), keepdim=True) * level).sum(dim=0).clamp_min(0)
        return heat / heat.max() if heat.max() > 0 else heat


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_map_is_that_of_the_derivatives_written_down(number):
    network, batch = tiny(), drawn(6)
    logits, maps = grad_cam(network, batch, "second", torch.full((6,), number))
    assert maps.shape == (6, 4, 6)
    assert maps.dtype == torch.float32
    torch.testing.assert_close(logits, network(batch).detach())
    expected = torch.stack([by_hand(network, image, number) for image in batch])
    torch.testing.assert_close(maps.double(), expected, rtol=1e-4, atol=1e-6)


def with_autograd(network: nn.Module, batch: Tensor) -> Tensor:
    """At the features of a network, through the whole graph of each image."""
    heats = []
    for image in batch:
        features = network.features(image[None])
        features.retain_grad()
        network.classify(features).max().backward()
        heat = (features.grad.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu()[0].detach()
        assert float(heat.max()) > 0
        heats.append(heat / heat.max())
    return torch.stack(heats)


@pytest.mark.parametrize("name", IMAGE_NETWORKS)
def test_at_the_last_features_of_every_network(name):
    network = seeded(name)
    for value in network.parameters():
        value.data *= 6**0.5  # so that 16 layers let something through
    logits, maps = grad_cam(network, images(96), NAMES[name].features)
    torch.testing.assert_close(logits, network(images(96)).detach(), rtol=1e-4, atol=1e-5)
    # An own forward pass: the default class is the highest logit.
    torch.testing.assert_close(maps, with_autograd(network, images(96)), rtol=1e-3, atol=1e-4)


def test_an_image_has_the_same_map_in_every_batch():
    network, batch = seeded("resnet18"), torch.cat([images(64), images(64).flip(3)])
    _, together = grad_cam(network, batch, "layer4")
    alone = torch.cat([grad_cam(network, image[None], "layer4")[1] for image in batch])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_maps_lie_between_0_and_1_and_nothing_that_speaks_for_a_class_gives_0():
    network = tiny()
    _, maps = grad_cam(network, drawn(40), "second")
    highest = maps.amax(dim=(1, 2))
    assert float(maps.min()) >= 0
    assert set(highest.tolist()) <= {0.0, 1.0}
    with torch.no_grad():
        network.last.weight[0] = -network.last.weight[0].abs()
        network.second.weight.abs_()
    _, maps = grad_cam(network, drawn(4).abs(), "relu", torch.zeros(4, dtype=torch.long))
    assert bool((maps == 0).all())


def test_the_part_before_the_layer_has_no_gradient_and_nothing_is_left_behind():
    network, followed = tiny(), list[bool]()
    network.second.register_forward_pre_hook(lambda _, inputs: followed.append(inputs[0].requires_grad))
    before = copied(network)
    grad_cam(network, drawn(2), "second")
    assert followed == [False]
    assert all(value.grad is None for value in network.parameters())
    assert same(copied(network), before)
    assert torch.is_grad_enabled()
    assert not network.second._forward_hooks


@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(outer):
    expected = grad_cam(tiny(), drawn(3), "second")
    with outer():
        batch = drawn(3)
        assert same(list(grad_cam(tiny_of(), batch, "second")), list(expected))
        assert not torch.is_grad_enabled()


def tiny_of() -> Tiny:
    with torch.inference_mode(False):
        return tiny()


def test_an_unknown_layer_is_refused_with_the_known_ones():
    with pytest.raises(
        TaskError, match=r"layer: found 'secnd'; accepted: first, second, relu, last\. Did you "
    ):
        grad_cam(tiny(), drawn(1), "secnd")
