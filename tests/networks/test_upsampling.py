"""The transposed convolution that sums its bias's gradient: PyTorch's own, but for rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from xferlab.networks.build import NETWORKS, build
from xferlab.networks.cyclegan import Generator
from xferlab.networks.upsampling import TransposedConv2d

KINDS: list[dict[str, Any]] = [
    {"kernel_size": 2, "stride": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    {"kernel_size": 3, "stride": 2, "groups": 2, "dilation": 2},
    {"kernel_size": 2, "stride": 2, "bias": False},
]


def twins(**kind: Any) -> tuple[TransposedConv2d, nn.ConvTranspose2d]:
    ours, theirs = TransposedConv2d(6, 4, **kind), nn.ConvTranspose2d(6, 4, **kind)
    ours.load_state_dict(theirs.state_dict())
    layout = torch.channels_last
    return ours.to(memory_format=layout), theirs.to(memory_format=layout)


def trained(layer: nn.Module, images: torch.Tensor, slope: torch.Tensor) -> dict[str, torch.Tensor]:
    """Output and gradients of a weighted sum of it."""
    images = images.clone().requires_grad_()
    output = layer(images)
    (output.float() * slope).sum().backward()
    gradients = {name: value.grad for name, value in layer.named_parameters() if value.grad is not None}
    return {"output": output.detach(), "images": images.grad, **gradients}


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("is_short", [False, True], ids=["float32", "bfloat16"])
def test_output_has_pytorch_s_bits_and_gradients_its_values(kind, is_short):
    torch.manual_seed(0)
    ours, theirs = twins(**kind)
    images = torch.randn(3, 6, 10, 8).contiguous(memory_format=torch.channels_last)
    slope = torch.randn_like(theirs(images))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_short):
        found, expected = trained(ours, images, slope), trained(theirs, images, slope)
    assert found.keys() == expected.keys() == {"output", "images", *dict(theirs.named_parameters())}
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        if name == "bias":
            # A sum of 480 or so values that nearly cancel; bfloat16 keeps eight bits of each.
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=0.1 if is_short else 1e-4)
        else:
            assert found[name].equal(value), name


def test_the_sum_over_short_floats_is_as_exact_as_that_over_long_ones():
    torch.manual_seed(0)
    ours, _ = twins(kernel_size=2, stride=2)
    images, slope = torch.randn(8, 6, 64, 64), torch.randn(8, 4, 128, 128).bfloat16().float() + 0.1
    slope = slope.bfloat16().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bias = trained(ours, images, slope)["bias"]
    expected = slope.double().sum((0, 2, 3))
    torch.testing.assert_close(bias.double(), expected, rtol=2**-8, atol=0)


def test_a_frozen_bias_gets_no_gradient():
    ours, _ = twins(kernel_size=2, stride=2)
    ours.bias.requires_grad_(requires_grad=False)
    ours(torch.randn(1, 6, 4, 4)).sum().backward()
    assert ours.bias.grad is None
    assert ours.weight.grad is not None


def test_a_size_of_the_output_can_be_given():
    ours, theirs = twins(kernel_size=3, stride=2, padding=1)
    images = torch.randn(1, 6, 5, 5)
    assert ours(images, [10, 10]).equal(theirs(images, [10, 10]))
    assert ours(images).shape == (1, 4, 9, 9)


def test_all_networks_that_train_such_a_bias_use_it():
    networks = [build(name, in_channels=1, out_channels=1) for name in NETWORKS]
    networks.append(Generator())
    layers = [layer for network in networks for layer in network.modules()]
    with_bias = [each for each in layers if isinstance(each, nn.ConvTranspose2d) and each.bias is not None]
    assert len(with_bias) > 10
    assert all(isinstance(each, TransposedConv2d) for each in with_bias)
