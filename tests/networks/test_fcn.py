"""FCN-8s, FCN-32s: sizes, where scores lie, bilinear upsampling, and weights of VGG16."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks.test_freezing import Freeze, trainable, training
from tests.networks.test_image_networks import count, on_meta
from tests.training.learners import copied, same
from xferlab.errors import DonorError
from xferlab.networks.build import build, initialise, network_in
from xferlab.networks.fcn import DESIGNS, Upsampling
from xferlab.networks.freezing import freeze
from xferlab.networks.inherit import fold_channels, inherit
from xferlab.networks.vgg_levels import width_of

pytestmark = pytest.mark.component


def network(name: str = "fcn8s", seed: int = 1, **options: object) -> nn.Module:
    given = {"in_channels": 1, "out_channels": 2, "width": 0.05} | options
    model = build(name, **given)  # type: ignore[arg-type]
    initialise(model, seed)
    return model.eval()


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "in_channels", "parameters"),
    [("fcn8s", 3, 134_271_430), ("fcn8s", 1, 134_270_278), ("fcn32s", 3, 134_285_122)],
)
def test_the_published_networks_have_their_parameters(name, in_channels, parameters):
    assert count(on_meta(name, in_channels=in_channels, out_channels=2)) == parameters


# --- where scores lie ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DESIGNS)
def test_an_output_has_the_size_of_its_image(name):
    model = on_meta(name, in_channels=1, out_channels=2, width=0.05)
    for size in [(1, 1), (16, 31), (32, 64), *((side, 161 - side) for side in range(33, 129, 5))]:
        assert model(torch.empty(1, 1, *size, device="meta")).shape == (1, 2, *size)


@torch.no_grad()
def passing_on(model: nn.Module) -> None:
    """Makes each convolution pass on its first channel, so that each score is that of what it scores."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.zero_()
            layer.bias.zero_()
            middle = layer.kernel_size[0] // 2
            layer.weight[0, 0, middle, middle] = 1


@pytest.mark.parametrize(("name", "scored"), [("fcn8s", [32, 16, 8]), ("fcn32s", [32])])
def test_scores_lie_where_what_they_are_of_lies(name, scored):
    """A maximum of s columns is the last, (s - 1) / 2 right of the middle; between middles, it is linear."""
    model = network(name, out_channels=1)
    passing_on(model)
    ramp = torch.arange(1.0, 161.0)
    inside = slice(25, 124)  # between the middles of cells that end in the image, however often upsampled
    for image in (ramp.expand(160, 160), ramp[:, None].expand(160, 160)):
        score = model(image[None, None])[0, 0, inside, inside]
        expected = sum(image[inside, inside] + (side - 1) / 2 for side in scored)
        torch.testing.assert_close(score, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", DESIGNS)
def test_a_constant_score_stays_constant_inside_of_the_outer_cells(name):
    model = network(name)
    with torch.no_grad():
        for layer in model.conv.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.zero_()
                layer.bias.copy_(torch.tensor([1.0, -2.0]))
    number = 3 if name == "fcn8s" else 1
    output = model(drawn(1, 1, 64, 96))[:, :, 25:, 25:]
    torch.testing.assert_close(output, number * torch.tensor([1.0, -2.0])[:, None, None].expand_as(output))


def test_upsampling_starts_as_the_bilinear_one_of_pillow_and_of_pytorch():
    for stride in (2, 8, 32):
        values = drawn(1, 2, 5, 6)
        layer, (height, width) = Upsampling(2, stride), (5 * stride, 6 * stride)
        edge = stride // 2
        upsampled = layer(values)[:, :, edge : edge + height, edge : edge + width].detach()
        inside = (..., slice(edge, -edge), slice(edge, -edge))  # beyond the outer middles lie zeros
        expected = F.interpolate(values, scale_factor=stride, mode="bilinear", align_corners=False)
        torch.testing.assert_close(upsampled[inside], expected[inside])
        picture = Image.fromarray(values[0, 0].numpy()).resize((width, height), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(upsampled[inside][0, 0], np.asarray(picture)[inside[1:]], atol=1e-5)


def test_first_weights_are_a_function_of_the_seed_and_keep_the_deviation():
    one, again, other = (network("fcn32s", seed, width=0.1) for seed in (1, 1, 2))
    assert same(copied(one), copied(again))
    assert one.conv.up.weight.equal(other.conv.up.weight)
    assert not one.bottleneck.fc6.weight.equal(other.bottleneck.fc6.weight)
    kernels = one.bottleneck.fc6.weight.detach()
    assert float(kernels.std()) == pytest.approx((2 / kernels[0].numel()) ** 0.5, rel=0.02)


# --- weights of others --------------------------------------------------------------------------------------


def vgg(name: str = "vgg16", in_channels: int = 1) -> nn.Module:
    model = build(name, in_channels=in_channels, out_channels=10, width=0.05)
    initialise(model, 5)
    return model.eval()


def test_with_weights_of_vgg16_it_computes_what_vgg16_does():
    """An image of 26 px is one of 224 px with its padding, of which `fc7` has a single cell."""
    donor, model = vgg(), network()
    head = copied(model.conv)
    inherit(model, donor.state_dict(), origin="x")
    image, features = drawn(1, 1, 26, 26), []
    model.bottleneck.register_forward_hook(lambda _, inputs, output: features.append(output))
    with torch.no_grad():
        model(image)
        hidden = donor.classifier[:-1](donor.pool(donor.features(F.pad(image, (99,) * 4))).flatten(1))
    torch.testing.assert_close(features[0].flatten(1), hidden)
    assert same(copied(model.conv), head)


def test_three_channels_of_vgg16_fold_into_one():
    donor, model = vgg(in_channels=3), network()
    with pytest.raises(DonorError, match=r"3 input channels while model\.in_channels is 1: .*{fold: sum}"):
        inherit(model, donor.state_dict(), origin="x")
    inherit(model, fold_channels(donor.state_dict(), "sum"), origin="x")
    kernels = donor.features[0].weight.sum(dim=1, keepdim=True)
    torch.testing.assert_close(model.encoder1.conv1.weight, kernels)


@pytest.mark.parametrize(
    ("donor", "changes", "message"),
    [
        (
            vgg(),
            {"width": 0.2},
            r"8 filters in its first convolution, and the network has 16; set model\.wid",
        ),
        (vgg("vgg19"), {}, r"have no 'features\.17\.weight', and the network is made of VGG16; start from"),
        (network("fcn32s"), {}, r"weights of a fcn32s, and the network is a fcn8s"),
        (network("segnet"), {}, r"weights of a segnet, and the network is a fcn8s"),
        (network(width=0.2), {}, r"16 filters while the network's has 8: the stages differ in model\.width"),
        (network(out_channels=1), {}, r"The last layer has 1 outputs, .* adapt: {head: new}"),
    ],
)
def test_weights_of_another_network_are_refused_by_what_differs(donor, changes, message):
    model = network(**changes)
    before = copied(model)
    with pytest.raises(DonorError, match=message):
        inherit(model, donor.state_dict(), origin="x")
    assert same(copied(model), before)


def test_a_new_head_is_all_that_has_scores():
    donor, model = network(seed=3, out_channels=1), network(seed=9)
    before = copied(model)
    inherit(model, donor.state_dict(), origin="x", new_head=True)
    for key, value in model.state_dict().items():
        assert value.equal(before[key] if key.startswith("conv.") else donor.state_dict()[key])


@pytest.mark.parametrize("name", [*DESIGNS, "segnet"])
@pytest.mark.parametrize("width", [0.02, 0.3])
def test_weights_tell_their_network_and_its_width(name, width):
    state = on_meta(name, in_channels=1, out_channels=2, width=width).state_dict()
    told = on_meta(name, in_channels=1, out_channels=2, width=width_of(state)).state_dict()
    assert network_in(state) == name
    assert {key: value.shape for key, value in told.items()} == {k: v.shape for k, v in state.items()}


def test_a_frozen_encoder_leaves_the_head_to_train():
    model = network()
    freeze(model.train(), Freeze("encoder", {"bottleneck": 1}), epoch=1)
    assert trainable(model) == training(model) == {"conv"}
    freeze(model.train(), Freeze("encoder", {"bottleneck": 1}), epoch=2)
    assert trainable(model) == training(model) == {"conv", "bottleneck"}
