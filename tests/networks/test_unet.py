"""The U-Net of the published weights, and the weights that a network starts with."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.training.learners import copied, same
from xferlab.networks.build import build, initialise
from xferlab.networks.unet import UNet


def published_shapes(channels: int, outputs: int, f: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published weights, by the rule that names them."""
    widths = {"enc1": f, "enc2": 2 * f, "enc3": 4 * f, "enc4": 8 * f, "bottleneck": 16 * f}
    levels = [(f"encoder{n}", f"enc{n}", channels if n == 1 else f * 2 ** (n - 2)) for n in (1, 2, 3, 4)]
    levels += [("bottleneck", "bottleneck", 8 * f)]
    shapes: dict[str, tuple[int, ...]] = {}
    for n in (4, 3, 2, 1):
        width = f * 2 ** (n - 1)
        widths[f"dec{n}"] = width
        levels.append((f"decoder{n}", f"dec{n}", 2 * width))
        shapes |= {f"upconv{n}.weight": (2 * width, width, 2, 2), f"upconv{n}.bias": (width,)}
    for module, prefix, incoming in levels:
        width = widths[prefix]
        for number, inputs in ((1, incoming), (2, width)):
            shapes[f"{module}.{prefix}conv{number}.weight"] = (width, inputs, 3, 3)
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{module}.{prefix}norm{number}.{part}"] = (width,)
            shapes[f"{module}.{prefix}norm{number}.num_batches_tracked"] = ()
    return shapes | {"conv.weight": (outputs, f, 1, 1), "conv.bias": (outputs,)}


def test_has_the_parameters_of_the_published_network():
    assert sum(parameter.numel() for parameter in UNet().parameters()) == 7_763_041


@pytest.mark.parametrize(("channels", "outputs", "features"), [(3, 1, 32), (1, 1, 4), (4, 3, 5)])
def test_names_and_shapes_are_the_published_ones(channels, outputs, features):
    model = UNet(in_channels=channels, out_channels=outputs, init_features=features)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert shapes == published_shapes(channels, outputs, features)


@pytest.mark.parametrize("size", [(16, 16), (32, 48)])
@pytest.mark.parametrize(("channels", "outputs"), [(3, 1), (1, 4)])
def test_output_has_the_size_of_the_image(size, channels, outputs):
    model = UNet(in_channels=channels, out_channels=outputs, init_features=2)
    assert model(torch.zeros(2, channels, *size)).shape == (2, outputs, *size)


def test_output_is_a_logit_of_either_sign():
    torch.manual_seed(0)
    logits = UNet(init_features=4)(torch.randn(4, 3, 32, 32))
    assert logits.min() < 0 < logits.max()
    assert not torch.sigmoid(logits).equal(logits)


def test_in_evaluation_an_image_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    model, images = UNet(init_features=4), torch.randn(4, 3, 32, 32)
    model(images)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.eval()
    with torch.no_grad():
        together, alone = model(images), torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())


def test_each_encoder_level_reaches_the_output_past_the_bottleneck():
    model = UNet(init_features=2).eval()
    torch.nn.init.zeros_(model.upconv4.weight)
    images = torch.randn(1, 3, 32, 32, requires_grad=True)
    model(images).sum().backward()
    for level in (model.encoder1, model.encoder2, model.encoder3, model.encoder4):
        assert any(parameter.grad.abs().sum() > 0 for parameter in level.parameters())
    assert all(parameter.grad.abs().sum() == 0 for parameter in model.bottleneck.parameters())


def test_upsampled_features_come_before_the_encoders():
    model = UNet(init_features=2).eval()
    with torch.no_grad():
        model.decoder1.dec1conv1.weight[:, :2] = 0
        output = model(images := torch.randn(1, 3, 32, 32))
        model.upconv1.bias += 1
        assert model(images).equal(output)
        model.decoder1.dec1conv1.weight[:, 2:] = 0
        assert not model(images).equal(output)


def test_layout_and_bf16_change_the_output_by_rounding_only():
    torch.manual_seed(0)
    model, images = UNet(init_features=4).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(images)
        model = model.to(memory_format=torch.channels_last)
        output = model(images.to(memory_format=torch.channels_last))
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(images.to(memory_format=torch.channels_last))
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, rtol=0.1, atol=0.05)


# --- initial weights -------------------------------------------------------------------------------------


def small(**options) -> nn.Module:
    return build("unet", **({"in_channels": 3, "out_channels": 1, "init_features": 4} | options))


@pytest.mark.parametrize("seed", [0, 2021, 2**32 - 1])
@pytest.mark.parametrize("make", [small, lambda: nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 1, bias=False))])
def test_equals_a_network_that_pytorch_initialised_under_the_seed(make, seed):
    torch.manual_seed(seed)
    expected = make()
    model = make()
    initialise(model, seed)
    assert same(copied(model), copied(expected))


def test_depends_on_the_seed_alone():
    one, other, third = small(), small(), small()
    initialise(one, 5)
    torch.manual_seed(99)
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if threads == 1 else 1)
    try:
        initialise(other, 5)
    finally:
        torch.set_num_threads(threads)
    initialise(third, 6)
    assert same(copied(one), copied(other))
    assert not same(copied(one), copied(third))


def test_forgets_what_was_learnt_and_leaves_the_global_generator_alone():
    model, fresh = small(), small()
    initialise(fresh, 1)
    model(torch.randn(2, 3, 16, 16))
    before = torch.get_rng_state()
    initialise(model, 1)
    assert same(copied(model), copied(fresh))
    assert torch.get_rng_state().equal(before)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_layers_without_a_rule_are_refused():
    with pytest.raises(NotImplementedError, match="1: no rule for the initial weights of a PReLU"):
        initialise(nn.Sequential(nn.ReLU(), nn.PReLU()), 0)
