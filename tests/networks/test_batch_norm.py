"""Batch normalisation where it is compiled for a CPU: PyTorch's own, but for rounding."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException

from tests.networks.test_upsampling import trained
from xferlab.networks.batch_norm import BatchNorm2d
from xferlab.networks.build import NETWORKS, build

# PyTorch's compiler uses it itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def compiled(layer: nn.Module) -> nn.Module:
    """The layer as the compiler reads it, without making machine code."""
    return torch.compile(layer, backend="aot_eager", dynamic=False)  # type: ignore[return-value]


def twins() -> tuple[BatchNorm2d, nn.BatchNorm2d]:
    ours, theirs = BatchNorm2d(5, eps=1e-3), nn.BatchNorm2d(5, eps=1e-3)
    for value in theirs.parameters():
        nn.init.uniform_(value, 0.5, 1.5)
    nn.init.uniform_(theirs.running_mean)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def images(offset: float = 0.0) -> torch.Tensor:
    return (torch.randn(4, 5, 12, 10) + offset).contiguous(memory_format=torch.channels_last)


# An offset of 1,000 deviations: float32 keeps four of the digits, a plain mean of squares none.
@pytest.mark.parametrize(("offset", "tolerance"), [(0.0, 1e-5), (1000.0, 1e-3)])
def test_compiled_values_gradients_and_running_statistics_are_pytorch_s(offset, tolerance):
    torch.manual_seed(0)
    (ours, theirs), batch, slope = twins(), images(offset), images()
    found, expected = trained(compiled(ours), batch, slope), trained(theirs, batch, slope)
    found = {name.removeprefix("_orig_mod."): value for name, value in found.items()}
    for name, value in {**expected, **theirs.state_dict()}.items():
        own = {**found, **ours.state_dict()}[name]
        assert own.dtype == value.dtype
        torch.testing.assert_close(own, value, rtol=tolerance, atol=tolerance)
    assert not found["output"].equal(expected["output"]), "it computes as PyTorch does"


def test_compiled_values_under_autocast_are_those_of_float32_rounded_once():
    torch.manual_seed(0)
    (ours, theirs), batch = twins(), images().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = compiled(ours)(batch)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), theirs(batch.float()), rtol=2**-8, atol=1e-5)


def test_where_it_is_not_compiled_or_not_trained_it_has_pytorch_s_bits():
    (ours, theirs), batch = twins(), images()
    assert ours(batch).equal(theirs(batch))
    assert ours.eval()(batch).equal(theirs.eval()(batch))
    torch.testing.assert_close(compiled(ours)(batch), theirs(batch))
    assert ours.running_mean.equal(theirs.running_mean)


def test_a_single_value_has_no_deviation_compiled_or_not():
    ours, _ = twins()
    for layer in (ours, compiled(ours)):
        with pytest.raises((ValueError, TorchDynamoException), match="more than 1 value"):
            layer(torch.ones(1, 5, 1, 1))


def test_all_networks_use_it():
    layers = [layer for name in NETWORKS for layer in build(name, in_channels=1, out_channels=1).modules()]
    norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) > 10
    assert all(isinstance(layer, BatchNorm2d) for layer in norms)
