"""The U-Net with dropout: sizes, layers written out, first weights, and what it shares with `unet`."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks.test_freezing import ALL, Freeze, trainable, training
from tests.training.learners import copied, same
from xferlab.errors import DonorError
from xferlab.networks.build import build, initialise, network_in
from xferlab.networks.donors import save_weights
from xferlab.networks.dropout import Dropout, reseed
from xferlab.networks.freezing import LEVELS, freeze
from xferlab.networks.inherit import fold_channels, inherit, matched_control
from xferlab.networks.normalisation import Normalisation
from xferlab.networks.translator import Translator

pytestmark = pytest.mark.component

Shapes = Mapping[str, tuple[int, ...]]


def network(seed: int = 1, name: str = "unet_dropout", **options: object) -> nn.Module:
    given = {"in_channels": 1, "out_channels": 1, "init_features": 4} | options
    model = build(name, **given)  # type: ignore[arg-type]
    initialise(model, seed)
    return model


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("features", "parameters"), [(16, 1_940_817), (112, 95_021_361), (64, 31_030_593)])
def test_the_three_networks_have_the_parameters_of_the_method(features, parameters):
    with torch.device("meta"):
        model = build("unet_dropout", in_channels=1, out_channels=1, init_features=features)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert not list(model.buffers())


def test_dropout_lies_between_the_convolutions_with_the_rates_of_the_method():
    kinds = ["Conv2d", "ReLU", "Dropout", "Conv2d", "ReLU"]
    levels = {name: part for name, part in network().named_children() if isinstance(part, nn.Sequential)}
    assert {tuple(type(layer).__name__ for layer in part) for part in levels.values()} == {tuple(kinds)}
    assert {name: part[2].p for name, part in levels.items()} == {
        "encoder1": 0.1, "encoder2": 0.1, "encoder3": 0.2, "encoder4": 0.2, "bottleneck": 0.3,
        "decoder4": 0.2, "decoder3": 0.2, "decoder2": 0.1, "decoder1": 0.1,
    }  # fmt: skip


def written_out(
    state: Mapping[str, Tensor], images: Tensor, drop: Mapping[str, Tensor] | None = None
) -> Tensor:
    """The layers by the names of their weights; `drop` is what each level's dropout multiplies by."""

    def level(module: str, prefix: str, values: Tensor) -> Tensor:
        for number in (1, 2):
            name = f"{module}.{prefix}conv{number}"
            values = F.conv2d(values, state[f"{name}.weight"], state[f"{name}.bias"], padding=1).relu()
            values = values * drop[prefix] if drop and number == 1 else values
        return values

    down, values = [], images
    for number in (1, 2, 3, 4):
        down.append(level(f"encoder{number}", f"enc{number}", values))
        values = F.max_pool2d(down[-1], 2)
    values = level("bottleneck", "bottleneck", values)
    for number in (4, 3, 2, 1):
        kernels, bias = state[f"upconv{number}.weight"], state[f"upconv{number}.bias"]
        up = F.conv_transpose2d(values, kernels, bias, stride=2)
        values = level(f"decoder{number}", f"dec{number}", torch.cat([up, down[number - 1]], dim=1))
    return F.conv2d(values, state["conv.weight"], state["conv.bias"])


def test_it_computes_the_layers_written_out():
    model = network(in_channels=3, out_channels=2).double().eval()
    images = drawn(2, 3, 32, 48).double()
    with torch.no_grad():
        torch.testing.assert_close(model(images), written_out(model.state_dict(), images))


def test_in_training_each_level_drops_between_its_convolutions():
    model, images = network().double().train(), drawn(2, 1, 32, 32).double()
    dropped: dict[str, Tensor] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, Dropout):
            key = name.rpartition(".")[2].removesuffix("dropout")
            layer.register_forward_hook(
                lambda _, given, output, key=key: dropped.update({key: output / given[0].clamp_min(1e-300)})
            )
    reseed(model, seed=1, epoch=1, batch=0)
    with torch.no_grad():
        output = model(images)
        torch.testing.assert_close(output, written_out(model.state_dict(), images, dropped))
    assert not output.allclose(written_out(model.state_dict(), images))


# --- first weights ------------------------------------------------------------------------------------------


def test_each_layer_has_the_deviation_of_its_rule():
    """He: sqrt(2 / fan in) where ReLU follows; Glorot: sqrt(2 / (fan in + fan out)) elsewhere; biases 0."""
    model, seen = network(init_features=32, in_channels=3), 0
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            continue
        area = layer.kernel_size[0] * layer.kernel_size[1]
        fans = (layer.in_channels * area, layer.out_channels * area)
        is_he = layer.kernel_size == (3, 3)
        expected = (2 / fans[0]) ** 0.5 if is_he else (2 / sum(fans)) ** 0.5
        values = layer.weight.detach().double().flatten()
        # Four standard errors of a measured deviation.
        assert float(values.std()) == pytest.approx(expected, rel=4 / (2 * len(values)) ** 0.5), name
        assert abs(float(values.mean())) < 4 * expected / len(values) ** 0.5, name
        # A normal distribution has 4.6 % beyond two deviations, a uniform one nothing.
        beyond = float((values.abs() > 2 * expected).double().mean())
        assert beyond == pytest.approx(0.0455 if is_he else 0.0, abs=4 * (0.0455 / len(values)) ** 0.5), name
        assert bool((layer.bias == 0).all()), name
        seen += 1
    assert seen == 18 + 4 + 1


def test_the_first_weights_are_a_function_of_the_seed():
    torch.manual_seed(3)
    first = copied(network(7))
    torch.manual_seed(4)
    assert same(copied(network(7)), first)
    assert not same(copied(network(8)), first)


# --- what works as for unet ---------------------------------------------------------------------------------


def parts(model: nn.Module) -> set[str]:
    return {name for name, part in model.named_children() if list(part.parameters())}


def test_its_parts_are_those_of_unet():
    assert parts(network()) == parts(network(name="unet")) == ALL


def test_frozen_parts_have_no_gradient_and_drop_nothing():
    model = network().train()
    freeze(model, Freeze("encoder", 1), epoch=1)
    assert (
        trainable(model)
        == training(model)
        == ALL - set(LEVELS) | {"conv"} | {part for part in ALL if part.startswith(("decoder", "upconv"))}
    )
    resting = [layer for layer in model.encoder4.modules() if isinstance(layer, Dropout)]
    values = torch.ones(50)
    assert resting[0](values) is values
    freeze(model.train(), Freeze("encoder", 1), epoch=2)
    assert trainable(model) == ALL
    assert resting[0](values) is not values


def test_a_translator_keeps_the_rest_of_the_seed_and_inherits():
    shape = Translator(depth=2, width=5)
    donor, model = network(3), network(9, translator=shape)
    plain = network(9).state_dict()
    assert all(model.state_dict()[key].equal(value) for key, value in plain.items())
    inherit(model, donor.state_dict(), origin="x")
    assert all(model.state_dict()[key].equal(value) for key, value in donor.state_dict().items())
    assert model(drawn(2, 1, 16, 16)).shape == (2, 1, 16, 16)
    bound = 1 / (9 * 4) ** 0.5  # of PyTorch's default, as in unet
    assert float(model.translator.conv1.weight.detach().abs().max()) <= bound


def test_a_new_head_stays_and_the_rest_is_taken_over():
    donor, model = network(3), network(9, out_channels=3)
    before = copied(model)
    with pytest.raises(DonorError, match=r"The last layer has 1 outputs, .* adapt: {head: new}"):
        inherit(model, donor.state_dict(), origin="x")
    inherit(model, donor.state_dict(), origin="x", new_head=True)
    for key, value in model.state_dict().items():
        assert value.equal(before[key] if key.startswith("conv.") else donor.state_dict()[key])


@pytest.mark.parametrize("normalised", [False, True])
def test_three_channels_fold_into_one(normalised):
    """With a normalisation, constants go into the bias of the first convolution."""
    model, folded = network(in_channels=3).eval(), network(2).eval()
    colours = Normalisation(1.0, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)) if normalised else None
    state = fold_channels(model.state_dict(), "sum", normalisation=colours)
    inherit(folded, state, origin="x")
    grey = torch.rand(1, 1, 64, 64) * 255
    with torch.no_grad():
        expected = model(colours.apply(grey) if colours else grey.expand(-1, 3, -1, -1) / 255)
        given = folded(colours.grey().apply(grey) if colours else grey / 255)
    inside = slice(24, 40)  # beyond the reach of the padding, which stands for the means
    if not normalised:
        torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)
        return
    assert not state["encoder1.enc1conv1.bias"].equal(model.state_dict()["encoder1.enc1conv1.bias"])
    first = [
        F.conv2d(
            colours.apply(grey), *(model.state_dict()[f"encoder1.enc1conv1.{p}"] for p in ("weight", "bias"))
        )
    ]
    first.append(
        F.conv2d(colours.grey().apply(grey), *(state[f"encoder1.enc1conv1.{p}"] for p in ("weight", "bias")))
    )
    torch.testing.assert_close(
        first[0][..., inside, inside], first[1][..., inside, inside], rtol=1e-4, atol=1e-4
    )


def test_a_matched_control_keeps_each_tensors_values():
    state = network().state_dict()
    shuffled = matched_control(state, 3)
    name = "decoder1.dec1conv1.weight"
    assert not shuffled[name].equal(state[name])
    assert shuffled[name].flatten().sort().values.equal(state[name].flatten().sort().values)


@pytest.mark.parametrize(("own", "given"), [("unet", "unet_dropout"), ("unet_dropout", "unet")])
def test_weights_of_the_other_architecture_are_refused_by_name(own, given):
    model = network(name=own)
    before = copied(model)
    message = f"^donor x: these are weights of a {given}, and the network is a {own}; start from weights of"
    with pytest.raises(DonorError, match=message):
        inherit(model, network(name=given).state_dict(), origin="donor x")
    assert same(copied(model), before)


def test_state_dicts_tell_their_network():
    for name in ("unet", "unet_dropout"):
        assert network_in(network(name=name, translator=Translator(1, 2)).state_dict()) == name
    assert network_in({"a": torch.zeros(1)}) is None
    assert len(save_weights(network())) > 0
