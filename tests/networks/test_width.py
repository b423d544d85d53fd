"""Networks of other widths: their channels, heads and parameters, and what published weights say to them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.networks.test_image_networks import B4, NAMES, count, on_meta
from tests.networks.test_pretrained import published_file
from xferlab.errors import DonorError
from xferlab.networks.build import build, initialise
from xferlab.networks.donors import load_strict
from xferlab.networks.head import Head
from xferlab.networks.pretrained import Pretrained
from xferlab.networks.width import scaled

pytestmark = pytest.mark.component


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [
        (64, 0.25, 16),
        (112, 0.25, 32),
        (16, 0.25, 8),
        (44, 0.5, 24),
        (64, 2.0, 128),
        (1280, 0.1, 128),
        (5, 1.0, 5),
    ],
)
def test_channels_are_the_nearest_multiple_of_eight(channels, width, expected):
    assert scaled(channels, width) == expected


@pytest.mark.parametrize("name", NAMES)
def test_width_1_is_the_network_without_a_width(name):
    plain = on_meta(name, in_channels=1, out_channels=2, head=B4).state_dict()
    for width in (None, 1.0):
        same = on_meta(name, in_channels=1, out_channels=2, head=B4, width=width).state_dict()
        assert {key: value.shape for key, value in same.items()} == {k: v.shape for k, v in plain.items()}


def vgg_count(filters: list[int], dense: list[int]) -> int:
    """Weights and biases of 3x3 convolutions and of fully connected layers, from one channel on."""
    kernels = zip([1, *filters], filters, strict=False)
    layers = zip([filters[-1], *dense], dense, strict=False)
    return sum(9 * a * b + b for a, b in kernels) + sum(a * b + b for a, b in layers)


QUARTER = [16] * 2 + [32] * 2 + [64] * 3 + [128] * 6


def test_a_quarter_of_vgg_has_a_quarter_of_each_layer():
    network = on_meta("vgg16", in_channels=1, out_channels=2, head=B4, width=0.25)
    convolutions = [part.out_channels for part in network.modules() if isinstance(part, nn.Conv2d)]
    assert convolutions == QUARTER
    assert [part.out_features for part in network.head if isinstance(part, nn.Linear)] == [256, 128, 16, 2]
    assert count(network) == vgg_count(QUARTER, [256, 128, 16, 2])
    own = on_meta("vgg16", in_channels=1, out_channels=2, width=0.25)
    assert [tuple(own.classifier[n].weight.shape) for n in (0, 3, 6)] == [
        (1024, 6272),
        (1024, 1024),
        (2, 1024),
    ]


@pytest.mark.parametrize("head", [B4, Head(), None])
@pytest.mark.parametrize("name", NAMES)
def test_every_width_of_every_network_takes_images(name, head):
    torch.manual_seed(1)
    network = build(name, in_channels=1, out_channels=3, head=head, width=0.25)
    initialise(network, 1)
    logits = network(torch.rand(2, 1, 64, 64))
    logits.sum().backward()
    assert logits.shape == (2, 3)
    assert all(value.grad is not None for value in network.parameters())


def test_the_channels_of_a_half_resnet_and_efficientnet():
    resnet = on_meta("resnet18", width=0.5, in_channels=3, out_channels=1000)
    assert [stage[0].conv1.out_channels for stage in (resnet.layer1, resnet.layer4)] == [32, 256]
    assert resnet.layer1[0].downsample is None
    lite = on_meta("efficientnet_lite0", width=0.25, in_channels=3, out_channels=1000)
    projected = [block._project_conv.out_channels for block in lite._blocks]
    assert projected == [8, 8, 8, 8, 8, 24, 24, 24, 32, 32, 32, 48, 48, 48, 48, 80]
    assert (lite._conv_stem.out_channels, lite._fc.in_features) == (8, 320)


def test_published_weights_are_of_width_1(tmp_path):
    state = published_file("resnet18", tmp_path)
    for width in (0.25, 0.95):
        network = build("resnet18", in_channels=3, out_channels=2, head=B4, width=width)
        with pytest.raises(
            DonorError, match="imagenet/resnet18: published weights are of a network of width 1"
        ):
            Pretrained("resnet18").start(network, state, origin="imagenet/resnet18")


def test_stages_of_two_widths_do_not_fit_and_the_message_says_so():
    wide, narrow = (
        build("resnet18", in_channels=1, out_channels=2, head=B4, width=width) for width in (0.5, 0.25)
    )
    with pytest.raises(DonorError, match=r"has 32 filters while the network's has 16: .* model\.width"):
        load_strict(narrow, wide.state_dict(), origin="x")
