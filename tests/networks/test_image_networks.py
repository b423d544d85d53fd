"""VGG16, VGG19, ResNet-18, EfficientNet-Lite0: sizes, names, heads, and what they compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.training.learners import copied, same
from xferlab.networks.build import NAMES as LAYER_NAMES
from xferlab.networks.build import build, initialise
from xferlab.networks.dropout import Dropout, reseed
from xferlab.networks.head import Head

B4 = Head((1024, 512, 64), dropout=(0.2, 0.2))
"""The head of arias-garzon2021 (methods, B.4)."""

NAMES = tuple(name for name, names in LAYER_NAMES.items() if names.features)
FEATURES = {"vgg16": (512, 16), "vgg19": (512, 16), "resnet18": (512, 32), "efficientnet_lite0": (1280, 32)}
"""Channels, and how often a side is shrunk."""


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(name: str, **options: object) -> nn.Module:
    """A network without values: that of VGG19 would take 575 MB."""
    with torch.device("meta"):
        return build(name, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "channels", "outputs", "head", "trunk", "parameters"),
    [
        ("vgg16", 3, 1000, None, 14_714_688, 138_357_544),
        ("vgg16", 1, 2, B4, 14_713_536, 15_796_610),
        ("vgg16", 3, 2, B4, 14_714_688, 15_797_762),
        ("vgg19", 3, 1000, None, 20_024_384, 143_667_240),
        ("vgg19", 1, 2, B4, 20_023_232, 21_106_306),
        ("vgg19", 3, 2, B4, 20_024_384, 21_107_458),
        ("resnet18", 3, 1000, None, 11_176_512, 11_689_512),
        ("resnet18", 3, 4, None, 11_176_512, 11_178_564),
        ("efficientnet_lite0", 3, 1000, None, 3_371_008, 4_652_008),
    ],
)
def test_parameters_are_those_of_the_papers(name, channels, outputs, head, trunk, parameters):
    network = on_meta(name, in_channels=channels, out_channels=outputs, head=head)
    assert count(network) == parameters
    heads = [part for part in ("classifier", "fc", "_fc", "head") if hasattr(network, part)]
    assert len(heads) == 1
    assert parameters - count(getattr(network, heads[0])) == trunk


def test_the_head_of_the_method_has_its_parameters():
    network = on_meta("vgg16", in_channels=1, out_channels=2, head=B4)
    assert count(network.head) == 1_083_074
    assert [type(part).__name__ for part in network.head] == [
        "GlobalPool", "Dropout", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear", "ReLU", "Linear",
    ]  # fmt: skip
    assert [part.out_features for part in network.head if isinstance(part, nn.Linear)] == [1024, 512, 64, 2]
    assert [part.p for part in network.head if isinstance(part, Dropout)] == [0.2, 0.2]


def seeded(
    name: str, *, seed: int = 3, channels: int = 3, head: Head | None = B4, outputs: int = 5
) -> nn.Module:
    """A network whose batch normalisation has statistics and scales of its own."""
    network = build(name, in_channels=channels, out_channels=outputs, head=head)
    initialise(network, seed)
    generator = torch.Generator().manual_seed(seed)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.copy_(torch.randn(part.num_features, generator=generator) / 5)
            part.running_var.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
            part.weight.data.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
    return network.eval()


def images(side: int, *, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, side, side + 32, generator=torch.Generator().manual_seed(0))


# --- what they compute: the layers of the papers, written out by the names of the published weights --------

State = Mapping[str, Tensor]


def vgg(convolutions: tuple[int, ...]) -> Callable[[State, Tensor], Tensor]:
    def features(state: State, level: Tensor) -> Tensor:
        number = 0
        for block, times in enumerate(convolutions):
            if block:
                level, number = F.max_pool2d(level, 2), number + 1
            for _ in range(times):
                kernels, bias = state[f"features.{number}.weight"], state[f"features.{number}.bias"]
                level, number = F.conv2d(level, kernels, bias, padding=1).relu(), number + 2
        return level

    return features


def normal(state: State, name: str, level: Tensor, epsilon: float = 1e-5) -> Tensor:
    mean, variance, scale, shift = (
        state[f"{name}.{part}"].reshape(1, -1, 1, 1)
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (level - mean) / (variance + epsilon).sqrt() * scale + shift


def resnet18(state: State, level: Tensor) -> Tensor:
    level = normal(state, "bn1", F.conv2d(level, state["conv1.weight"], stride=2, padding=3)).relu()
    level = F.max_pool2d(level, 3, stride=2, padding=1)
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = F.conv2d(level, state[f"{name}.conv1.weight"], stride=stride, padding=1)
            inner = normal(state, f"{name}.bn1", inner).relu()
            inner = normal(state, f"{name}.bn2", F.conv2d(inner, state[f"{name}.conv2.weight"], padding=1))
            if stride == 2:
                level = F.conv2d(level, state[f"{name}.downsample.0.weight"], stride=2)
                level = normal(state, f"{name}.downsample.1", level)
            level = (level + inner).relu()
    return level


ORACLES = {"vgg16": vgg((2, 2, 3, 3, 3)), "vgg19": vgg((2, 2, 4, 4, 4)), "resnet18": resnet18}
"""That of EfficientNet-Lite0 are logits of another implementation: test_real_weights.py."""


@pytest.mark.parametrize("name", ORACLES)
def test_features_are_those_of_the_layers_written_out(name):
    network = seeded(name)
    state = {key: value.double() for key, value in network.state_dict().items()}
    with torch.inference_mode():
        expected = ORACLES[name](state, images(64).double())
        torch.testing.assert_close(network.double().features(images(64).double()), expected)
        torch.testing.assert_close(
            network.float().features(images(64)), expected.float(), rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_given_head_takes_the_mean_of_each_channel(name):
    network = seeded(name)
    state = network.state_dict()
    with torch.inference_mode():
        features = network.features(images(96))
        level = (F.max_pool2d(features, 2) if name.startswith("vgg") else features).mean(dim=(2, 3))
        for number in (1, 2, 3, 4):
            level = level @ state[f"head.dense{number}.weight"].T + state[f"head.dense{number}.bias"]
            level = level.relu() if number < 4 else level
        torch.testing.assert_close(network(images(96)), level)
        assert network.classify(features).equal(network(images(96)))


def test_the_own_head_of_vgg_is_three_layers_on_features_of_seven_pixels():
    network = seeded("vgg16", head=None)
    state = network.state_dict()
    with torch.inference_mode():
        for side in (224, 192):
            square = images(side)[..., :side]
            level = F.adaptive_avg_pool2d(F.max_pool2d(network.features(square), 2), 7).flatten(1)
            for number in (0, 3, 6):
                level = level @ state[f"classifier.{number}.weight"].T + state[f"classifier.{number}.bias"]
                level = level.relu() if number < 6 else level
            torch.testing.assert_close(network(square), level)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_the_own_head_of_the_others_is_one_layer_on_the_mean(name):
    network = seeded(name, head=None)
    output = network.fc if name == "resnet18" else network._fc
    with torch.inference_mode():
        expected = output(network.features(images(64)).mean(dim=(2, 3)))
        torch.testing.assert_close(network(images(64)), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_features_have_the_shape_that_is_said(name, channels):
    network, (width, shrunk) = seeded(name, channels=channels), FEATURES[name]
    with torch.inference_mode():
        assert network.features(images(64, channels=channels)).shape == (2, width, 64 // shrunk, 96 // shrunk)
        assert network(images(64, channels=channels)).shape == (2, 5)


@pytest.mark.parametrize("name", NAMES)
def test_logits_have_gradients_with_respect_to_the_features(name):
    """As a map of what a network looks at needs them."""
    network = seeded(name)
    features = network.features(images(64)).detach().requires_grad_()
    network.classify(features)[:, 0].sum().backward()
    assert features.grad.shape == features.shape
    assert bool((features.grad != 0).any())


# --- initial weights and dropout ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_batch_normalised_networks_start_as_pytorch_has_it(name):
    torch.manual_seed(7)
    expected = build(name, in_channels=1, out_channels=3, head=B4)
    network = build(name, in_channels=1, out_channels=3, head=B4)
    initialise(network, 7)
    assert same(copied(network), copied(expected))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_forty_steps_are_enough_to_tell_images_apart_in_evaluation(name):
    """Small sets of images give no more; statistics of the start that outlive them make all outputs equal."""
    network = build(name, in_channels=1, out_channels=2, head=Head(), width=0.25)
    initialise(network, 7)
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for _ in range(40):
            cases = torch.randn(8, 1, 64, 64, generator=generator).cumsum(dim=2)
            trained = network.train()(cases)
        evaluated = network.eval()(cases)
    assert float(evaluated.std(dim=0).mean() / trained.std(dim=0).mean()) > 0.1


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_a_deep_network_without_batch_normalisation_tells_images_apart_from_the_start(name):
    """Of what differs between two images, PyTorch's own weights leave 2e-4 (vgg16) and 1e-5 (vgg19)."""
    network = seeded(name, channels=1).eval()
    with torch.inference_mode():
        features = network.features(images(64, channels=1))
    assert float(features.std(dim=0).mean() / features.std()) > 0.05
    convolution = network.features[2]
    assert float(convolution.weight.detach().std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert not convolution.bias.any()


@pytest.mark.parametrize("name", NAMES)
def test_a_given_head_leaves_the_trunk_of_a_seed_as_it_is(name):
    trunks = []
    for head in (B4, Head()):
        network = build(name, in_channels=1, out_channels=3, head=head)
        initialise(network, 7)
        trunks.append({key: v for key, v in copied(network).items() if not key.startswith("head.")})
    assert same(*trunks)


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_ours_and_a_function_of_seed_epoch_and_batch(name):
    network = seeded(name).train()
    assert not [part for part in network.modules() if isinstance(part, nn.Dropout)]
    assert sum(isinstance(part, Dropout) for part in network.modules()) == 2

    def outputs(batch: int) -> Tensor:
        reseed(network, seed=1, epoch=1, batch=batch)
        with torch.no_grad():
            return network(images(64))

    first = outputs(1)
    assert not first.equal(outputs(2))
    torch.testing.assert_close(outputs(1), first)
