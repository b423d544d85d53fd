"""Padding, norms and upsampling of networks that translate images, against PyTorch's own and by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from xferlab.networks.residual import ResidualBlock, doubled, normalised, reflected

pytestmark = pytest.mark.component


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def value_and_gradient(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The gradient is of a sum with whole weights, so that it is exact in any order."""
    values = drawn(*shape).requires_grad_()
    output = function(values)
    weights = torch.randint(-9, 10, output.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((output * weights).sum(), values)
    return output.detach(), gradient


@pytest.mark.parametrize(
    ("padding", "size"), [(1, (2, 2)), (1, (5, 3)), (2, (3, 8)), (3, (4, 4)), (3, (9, 7))]
)
def test_reflection_is_pytorchs_in_value_and_gradient(padding, size):
    shape = (2, 3, *size)
    ours = value_and_gradient(lambda values: reflected(values, padding), shape)
    theirs = value_and_gradient(lambda values: F.pad(values, (padding,) * 4, mode="reflect"), shape)
    assert all(map(torch.equal, ours, theirs))


def test_reflection_beyond_the_other_border_is_an_error():
    with pytest.raises(RuntimeError, match="exceeds dimension size"):
        reflected(drawn(1, 1, 3, 9), 3)


def test_doubling_is_nearest_upsampling_in_value_and_gradient():
    ours = value_and_gradient(doubled, (2, 3, 4, 5))
    theirs = value_and_gradient(lambda values: F.interpolate(values, scale_factor=2.0), (2, 3, 4, 5))
    assert all(map(torch.equal, ours, theirs))


def test_adaptive_instance_norm_by_hand():
    """Channel 0 has mean 3 and variance 5, channel 1 mean 0 and variance 4."""
    features = torch.tensor([[[[0.0, 2.0], [4.0, 6.0]], [[-2.0, 2.0], [-2.0, 2.0]]]], dtype=torch.float64)
    affine = torch.tensor([[10.0, -1.0, 2.0, 0.5]])  # shifts, then scales
    root = 5**0.5
    expected = [10 - 6 / root, 10 - 2 / root, 10 + 2 / root, 10 + 6 / root, -1.5, -0.5, -1.5, -0.5]
    assert normalised(features, affine).flatten().tolist() == pytest.approx(expected, abs=2e-5)
    plain = normalised(features).flatten().tolist()
    assert plain == pytest.approx([-3 / root, -1 / root, 1 / root, 3 / root, -1, 1, -1, 1], abs=1e-5)


def test_each_image_and_channel_has_the_statistics_of_its_own_affine():
    features, affine = 5 + 3 * drawn(3, 4, 6, 7), drawn(3, 8)
    output = normalised(features, affine)
    torch.testing.assert_close(output.mean(dim=(2, 3)), affine[:, :4])
    deviation = output.std(dim=(2, 3), correction=0)
    torch.testing.assert_close(deviation, affine[:, 4:].abs(), rtol=1e-5, atol=0)
    shared = normalised(features, affine[:1])
    assert torch.equal(shared, normalised(features, affine[:1].expand(3, -1)))


def test_a_block_takes_the_affines_of_its_two_norms_in_order():
    block, features, affine = ResidualBlock(2).double(), drawn(2, 2, 4, 4), drawn(2, 8)

    def convolved(values: Tensor, layer: torch.nn.Conv2d) -> Tensor:
        return F.conv2d(F.pad(values, (1,) * 4, mode="reflect"), layer.weight, layer.bias)

    inner = normalised(convolved(features, block.conv1), affine[:, :4]).relu()
    expected = features + normalised(convolved(inner, block.conv2), affine[:, 4:])
    torch.testing.assert_close(block(features, affine), expected)
    neutral = torch.tensor([0.0, 0, 1, 1, 0, 0, 1, 1]).expand(2, -1)
    torch.testing.assert_close(block(features), block(features, neutral))
