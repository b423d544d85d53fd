"""FC-DenseNets: sizes of the published networks, layers written out, and what they share with `unet`."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks.test_freezing import Freeze, trainable, training
from tests.training.learners import copied, same
from xferlab.errors import DonorError
from xferlab.networks.build import build, initialise, network_in
from xferlab.networks.dropout import Dropout, reseed
from xferlab.networks.fc_densenet import DESIGNS, DenseBlock, design_in
from xferlab.networks.freezing import LEVELS, freeze
from xferlab.networks.inherit import fold_channels, inherit
from xferlab.networks.translator import Translator

pytestmark = pytest.mark.component


def network(seed: int = 1, name: str = "fc_densenet56", **options: object) -> nn.Module:
    given = {"in_channels": 1, "out_channels": 4, "growth": 2} | options
    model = build(name, **given)  # type: ignore[arg-type]
    initialise(model, seed)
    return model


def published(name: str, in_channels: int = 1) -> nn.Module:
    with torch.device("meta"):
        return build(name, in_channels=in_channels, out_channels=4)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "in_channels", "parameters", "statistics"),
    [
        ("fc_densenet103", 1, 9_319_428, 103_072),
        ("fc_densenet103", 3, 9_320_292, 103_072),
        ("fc_densenet67", 1, 3_460_356, 39_680),
        ("fc_densenet56", 1, 1_374_580, 21_168),
    ],
)
def test_the_published_networks_have_their_parameters(name, in_channels, parameters, statistics):
    model = published(name, in_channels)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert sum(value.numel() for value in model.buffers() if value.ndim) == statistics


@pytest.mark.parametrize(
    ("name", "depth"), [("fc_densenet103", 103), ("fc_densenet67", 67), ("fc_densenet56", 56)]
)
def test_the_number_in_a_name_is_that_of_layers_with_weights(name, depth):
    layers = [
        layer for layer in published(name).modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]
    assert len(layers) == depth


def test_blocks_of_fc_densenet103_have_the_channels_of_the_paper():
    blocks = [block for block in published("fc_densenet103").modules() if isinstance(block, DenseBlock)]
    whole = [block[-1].norm.num_features + 16 for block in blocks]
    assert whole == [112, 192, 304, 464, 656, 896, 1088, 816, 576, 384, 256]
    assert [block.out_channels for block in blocks] == [*whole[:5], 240, 192, 160, 112, 80, 256]


# --- layers -------------------------------------------------------------------------------------------------


def written_out(state: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """The layers of an FC-DenseNet56 in evaluation mode, by the names of their weights."""

    def layer(name: str, values: Tensor) -> Tensor:
        norm = [state[f"{name}.norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        kernels = state[f"{name}.conv.weight"]
        values = F.batch_norm(values, *norm).relu()
        return F.conv2d(values, kernels, state[f"{name}.conv.bias"], padding=kernels.shape[-1] // 2)

    def block(name: str, values: Tensor) -> list[Tensor]:
        parts = [values]
        for number in range(4):
            parts.append(layer(f"{name}.{number}", torch.cat(parts, dim=1)))
        return parts

    values = F.conv2d(images, state["encoder1.conv.weight"], state["encoder1.conv.bias"], padding=1)
    skips = []
    for level in (1, 2, 3, 4, 5):
        skips.append(torch.cat(block(f"encoder{level}.block", values), dim=1))
        below = f"encoder{level + 1}" if level < 5 else "bottleneck"
        values = F.max_pool2d(layer(f"{below}.down", skips[-1]), 2)
    values = torch.cat(block("bottleneck.block", values)[1:], dim=1)
    for level in (5, 4, 3, 2, 1):
        kernels, bias = state[f"upconv{level}.weight"], state[f"upconv{level}.bias"]
        up = F.conv_transpose2d(values, kernels, bias, stride=2)[:, :, :-1, :-1]
        parts = block(f"decoder{level}", torch.cat([up, skips[level - 1]], dim=1))
        values = torch.cat(parts if level == 1 else parts[1:], dim=1)
    return F.conv2d(values, state["conv.weight"], state["conv.bias"])


def test_it_computes_the_layers_written_out():
    model = network(in_channels=3).double().train()
    images = drawn(2, 3, 64, 32).double()
    with torch.no_grad():
        model(images)  # moves the running statistics
        torch.testing.assert_close(model.eval()(images), written_out(model.state_dict(), images))


def test_in_training_every_layer_but_those_without_batch_norm_drops_a_fifth_of_the_channels():
    model = network().train()
    layers = [layer for layer in model.modules() if isinstance(layer, Dropout)]
    assert len(layers) == 56 - len(["first", "head"]) - 5
    assert {(layer.p, layer.whole_channels) for layer in layers} == {(0.2, True)}
    outputs = []
    for epoch in (1, 1, 2):
        model.load_state_dict(network().state_dict())
        reseed(model, seed=1, epoch=epoch, batch=0)
        outputs.append(model(drawn(2, 1, 64, 64)).detach())
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


# --- what works as for unet ---------------------------------------------------------------------------------


def test_a_frozen_encoder_has_no_gradient_and_keeps_its_statistics():
    model = network().train()
    freeze(model, Freeze("encoder", {"encoder5": 1}), epoch=1)
    encoder = {"encoder1", "encoder2", "encoder3", "encoder4", "encoder5", "bottleneck"}
    others = {module for level in LEVELS.values() for module in level} - encoder
    assert trainable(model) == training(model) == others
    freeze(model.train(), Freeze("encoder", {"encoder5": 1}), epoch=2)
    assert trainable(model) == training(model) == others | {"encoder5"}


def test_a_translator_keeps_the_rest_of_the_seed_and_inherits():
    donor, model = network(3), network(9, translator=Translator(depth=2, width=5))
    assert same({key: model.state_dict()[key] for key in donor.state_dict()}, copied(network(9)))
    inherit(model, donor.state_dict(), origin="x")
    assert same({key: model.state_dict()[key] for key in donor.state_dict()}, copied(donor))
    assert model(drawn(2, 1, 64, 64)).shape == (2, 4, 64, 64)


def test_a_new_head_stays_and_the_rest_is_taken_over():
    donor, model = network(3, out_channels=1), network(9)
    before = copied(model)
    with pytest.raises(DonorError, match=r"The last layer has 1 outputs, .* adapt: {head: new}"):
        inherit(model, donor.state_dict(), origin="x")
    inherit(model, donor.state_dict(), origin="x", new_head=True)
    for key, value in model.state_dict().items():
        assert value.equal(before[key] if key.startswith("conv.") else donor.state_dict()[key])


def test_three_channels_fold_into_one():
    model, folded = network(in_channels=3).eval(), network(2).eval()
    inherit(folded, fold_channels(model.state_dict(), "sum"), origin="x")
    grey = drawn(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(folded(grey), model(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DESIGNS)
def test_weights_tell_their_network_and_its_growth(name):
    state = network(name=name, growth=3).state_dict()
    assert (network_in(state), design_in(state)) == (name, (name, 3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "fc_densenet67"}, r"weights of a fc_densenet67, and the network is a fc_densenet56"),
        ({"name": "unet", "growth": None, "init_features": 4}, r"weights of a unet, and the network is"),
        ({"growth": 3}, r"12 filters while the network's has 8: the stages differ in model\.growth"),
        ({"in_channels": 3}, r"3 input channels while model\.in_channels is 1: .*\(adapt: {fold: sum}\)"),
    ],
)  # fmt: skip
def test_weights_of_another_network_are_refused_by_what_differs(given, message):
    model = network()
    before = copied(model)
    with pytest.raises(DonorError, match=message):
        inherit(model, network(**given).state_dict(), origin="donor x")
    assert same(copied(model), before)
