"""The U-Net with instance normalisation: what it shares with `unet`, and what contrast does to it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks.test_unet_dropout import drawn, network
from xferlab.errors import DonorError
from xferlab.networks.build import network_in
from xferlab.networks.inherit import inherit

pytestmark = pytest.mark.component


def instance(seed: int = 1, **options: object) -> nn.Module:
    return network(seed, "unet_instance", **options)


def test_it_has_the_parameters_of_a_unet_and_starts_with_the_same_weights():
    own, other = instance().state_dict(), network(name="unet").state_dict()
    buffers = {key for key in other if key.rpartition(".")[2] in ("running_mean", "running_var")}
    counters = {key for key in other if key.endswith("num_batches_tracked")}
    assert own.keys() == other.keys() - buffers - counters
    assert all(own[key].equal(other[key]) for key in own)
    assert sum(
        p.numel() for p in network(name="unet_instance", in_channels=3, init_features=32).parameters()
    ) == (7_763_041)


def test_each_level_is_normalised_by_the_image_itself():
    level, images = instance().encoder1, drawn(3, 1, 32, 32)
    with torch.no_grad():
        for part in level:
            if isinstance(part, nn.InstanceNorm2d):
                part.weight.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(1))
                part.bias.uniform_(-1.0, 1.0, generator=torch.Generator().manual_seed(2))
        expected = images
        for number in (1, 2):
            values = F.conv2d(expected, level.get_parameter(f"enc1conv{number}.weight"), padding=1).double()
            mean, variance = values.mean((2, 3), keepdim=True), values.var((2, 3), correction=0, keepdim=True)
            scale, shift = (
                level.get_parameter(f"enc1norm{number}.{name}").reshape(1, -1, 1, 1)
                for name in ("weight", "bias")
            )
            expected = ((values - mean) / (variance + 1e-5).sqrt() * scale + shift).relu().float()
        assert (level(images) - expected).abs().max() < 1e-5


def test_contrast_batch_and_mode_do_not_matter():
    model, images = instance(), drawn(3, 1, 32, 32) * 50
    images[..., :1] = images[..., -1:] = images[..., :1, :] = images[..., -1:, :] = 0  # as padding
    with torch.inference_mode():
        expected: Tensor = model(images)
        assert (model(images * 3.0) - expected).abs().max() < 1e-3
        assert (model(images[:1]) - expected[:1]).abs().max() < 1e-5
        assert model.eval()(images).equal(expected)


def test_weights_of_the_other_u_nets_are_refused_by_name():
    for name in ("unet", "unet_dropout"):
        one, other = network(name=name), instance()
        assert (network_in(one.state_dict()), network_in(other.state_dict())) == (name, "unet_instance")
        with pytest.raises(DonorError, match=f"weights of a {name}, and the network is a unet_instance; "):
            inherit(other, one.state_dict(), origin="x")
        with pytest.raises(DonorError, match=f"weights of a unet_instance, and the network is a {name}; "):
            inherit(one, other.state_dict(), origin="x")
