"""SegNet: its size and layers, unpooling, and what it shares with `unet`."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks.test_fcn import drawn, network, vgg
from tests.networks.test_freezing import Freeze, trainable, training
from tests.networks.test_image_networks import count, on_meta
from tests.training.learners import copied, same
from xferlab.networks.freezing import LEVELS, freeze
from xferlab.networks.inherit import fold_channels, inherit
from xferlab.networks.segnet import unpooled
from xferlab.networks.translator import Translator

pytestmark = pytest.mark.component


def test_the_published_network_has_its_parameters_and_twice_the_convolutions_of_vgg16():
    model = on_meta("segnet", in_channels=1, out_channels=2)
    assert count(model) == 29_443_010
    assert sum(isinstance(layer, nn.Conv2d) for layer in model.modules()) == 2 * 13


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_unpooling_is_that_of_pytorch_with_its_gradients(memory_format):
    values = drawn(2, 3, 8, 6).relu().contiguous(memory_format=memory_format)  # ties among zeros
    pooled, indices = F.max_pool2d(values, 2, return_indices=True)
    weights, outputs = drawn(2, 3, 8, 6), []
    for unpool in (unpooled, lambda below, places: F.max_unpool2d(below, places, 2)):
        below = pooled.clone().requires_grad_()
        above = unpool(below, indices)
        (above * weights).sum().backward()
        outputs.append((above.detach(), below.grad))
    assert same(*(dict(enumerate(pair)) for pair in outputs))


def written_out(state: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """The layers of a SegNet in evaluation mode, by the names of their weights."""

    def level(name: str, numbers: int, values: Tensor) -> Tensor:
        for number in range(1, numbers + 1):
            kernels, bias = (state[f"{name}.conv{number}.{part}"] for part in ("weight", "bias"))
            parts = ("running_mean", "running_var", "weight", "bias")
            norm = [state[f"{name}.norm{number}.{part}"] for part in parts]
            values = F.batch_norm(F.conv2d(values, kernels, bias, padding=1), *norm).relu()
        return values

    numbers, places = (2, 2, 3, 3, 3), []
    for level_number, convolutions in enumerate(numbers, start=1):
        images = level(f"encoder{level_number}", convolutions, images)
        images, indices = F.max_pool2d(images, 2, return_indices=True)
        places.append(indices)
    for level_number, convolutions in ((5, 3), (4, 3), (3, 3), (2, 2), (1, 1)):
        images = F.max_unpool2d(images, places[level_number - 1], 2)
        images = level(f"decoder{level_number}", convolutions, images)
    return F.conv2d(images, state["conv.weight"], state["conv.bias"], padding=1)


def test_it_computes_the_layers_written_out():
    model = network("segnet", in_channels=3).double().train()
    images = drawn(2, 3, 64, 32).double()
    with torch.no_grad():
        model(images)  # moves the running statistics
        torch.testing.assert_close(model.eval()(images), written_out(model.state_dict(), images))


def test_it_starts_from_the_trunk_of_vgg16():
    donor, model = vgg(in_channels=3), network("segnet")
    before = copied(model)
    inherit(model, fold_channels(donor.state_dict(), "mean"), origin="x")
    taken = {key for key, value in model.state_dict().items() if not value.equal(before[key])}
    assert {key.split(".")[0] for key in taken} == {f"encoder{number}" for number in range(1, 6)}
    assert all(".conv" in key for key in taken)
    assert len({key for key in taken if key.endswith("weight")}) == 13
    assert model.encoder5.conv3.weight.equal(donor.features[28].weight)


def test_a_frozen_encoder_rests_and_a_translator_stands_in_place_of_the_classifier():
    donor, model = network("segnet", 3), network("segnet", 9, translator=Translator(depth=1, width=3))
    inherit(model, donor.state_dict(), origin="x")
    assert same({key: model.state_dict()[key] for key in donor.state_dict()}, copied(donor))
    freeze(model.train(), Freeze("donor", {"decoder5": 1}), epoch=2)
    assert trainable(model) == training(model) == {"translator", "decoder5"}
    assert {name for level in LEVELS.values() for name in level} >= set(copied_parts(model))
    assert model(drawn(2, 1, 32, 64)).shape == (2, 2, 32, 64)


def copied_parts(model: nn.Module) -> list[str]:
    return [name for name, part in model.named_children() if count(part) and name != "translator"]
