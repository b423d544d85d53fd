"""CycleGAN's and MUNIT's networks: sizes, what they compute, which patches they score, first weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.training.learners import copied, same
from xferlab.errors import TrainingError
from xferlab.networks.build import initialise
from xferlab.networks.cyclegan import Generator, PatchDiscriminator
from xferlab.networks.munit import DESIGNS, AutoEncoder, MultiScaleDiscriminator
from xferlab.networks.residual import normalised

pytestmark = pytest.mark.component

SMALL, PUBLISHED = DESIGNS["munit_small"], DESIGNS["munit"]
NARROW = replace(SMALL, width=4, hidden=8)
DEEP = replace(NARROW, layers=3, scales=2)

GENERATORS = [partial(Generator, width=4), partial(AutoEncoder, NARROW)]
DISCRIMINATORS = [partial(PatchDiscriminator, width=4), partial(MultiScaleDiscriminator, DEEP)]


def drawn(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def made(make: Callable[[], nn.Module], seed: int = 1) -> nn.Module:
    network = make()
    initialise(network, seed)
    return network


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- sizes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        (Generator, 778_113),
        (partial(Generator, width=64, blocks=6), 7_825_153),
        (partial(Generator, width=64, blocks=9), 11_365_633),
        (PatchDiscriminator, 2_762_689),
        (partial(AutoEncoder, SMALL), 2_330_505),
        (partial(AutoEncoder, PUBLISHED), 15_007_369),
        (partial(MultiScaleDiscriminator, SMALL), 33_441),
        (partial(MultiScaleDiscriminator, PUBLISHED), 8_265_027),
    ],
)
def test_networks_have_the_parameters_of_the_method_and_no_buffers(make, parameters):
    with torch.device("meta"):
        network = make()
    assert count(network) == parameters
    assert not list(network.buffers())


def test_the_parts_of_the_small_auto_encoder_have_theirs():
    with torch.device("meta"):
        network = AutoEncoder(SMALL)
    assert {name: count(part) for name, part in network.named_children()} == {
        "style_encoder": 691_208, "content_encoder": 755_968, "decoder": 848_193, "mlp": 35_136,
    }  # fmt: skip


@pytest.mark.parametrize("make", GENERATORS)
@pytest.mark.parametrize("size", [(96, 96), (256, 256), (16, 20)])
def test_generators_keep_the_size_and_stay_within_the_range(make, size):
    images = made(make)(drawn(1, 1, *size)).detach()
    assert images.shape == (1, 1, *size)
    assert bool((images.abs() <= 1).all())


def test_content_has_a_quarter_of_the_sides_and_a_style_has_eight_numbers():
    content, style = made(GENERATORS[1]).encode(drawn(3, 1, 32, 20))
    assert (content.shape, style.shape) == ((3, 16, 8, 5), (3, 8))


@pytest.mark.parametrize(
    ("make", "side", "maps"),
    [
        (DISCRIMINATORS[0], 256, [30]),
        (DISCRIMINATORS[0], 96, [10]),
        (DISCRIMINATORS[0], 27, [1]),
        (DISCRIMINATORS[1], 256, [32, 16]),
        (DISCRIMINATORS[1], 97, [12, 6]),
        (partial(MultiScaleDiscriminator, NARROW), 96, [24]),
        (partial(MultiScaleDiscriminator, replace(PUBLISHED, width=2)), 64, [4, 2, 1]),
    ],
)
def test_discriminators_give_a_map_for_each_scale(make, side, maps):
    scores = made(make)(drawn(2, 1, side, side))
    assert [tuple(score.shape) for score in scores] == [(2, 1, n, n) for n in maps]


@pytest.mark.parametrize(
    ("make", "size", "message"),
    [
        (GENERATORS[0], (96, 98), "98x96 px, .* multiples of 4 and at least 8 px; set model.image_size"),
        (GENERATORS[0], (4, 4), "4x4 px"),
        (GENERATORS[1], (97, 96), "96x97 px, .* multiples of 4 and at least 16 px"),
        (GENERATORS[1], (12, 12), "12x12 px"),
        (DISCRIMINATORS[0], (64, 23), "23x64 px, and the network takes sides that are at least 24 px"),
        (DISCRIMINATORS[1], (15, 15), "at least 16 px"),
    ],
)
def test_other_sizes_are_refused_with_those_that_are_taken(make, size, message):
    with pytest.raises(TrainingError, match=message):
        made(make)(drawn(1, 1, *size))


# --- what they compute --------------------------------------------------------------------------------------


def test_layer_norm_is_that_of_a_sample_with_an_affine_of_channels():
    norm = AutoEncoder(NARROW).decoder.up1[1].double()
    features, scale, shift = drawn(2, 8, 5, 6).double(), drawn(8).double(), drawn(1, 8)[0].double().cos()
    norm.load_state_dict({"weight": scale, "bias": shift})
    plain = F.layer_norm(features, (8, 5, 6))
    torch.testing.assert_close(norm(features), plain * scale[:, None, None] + shift[:, None, None])


def test_munits_decoder_takes_the_mlps_numbers_block_by_block():
    network = made(GENERATORS[1])
    content, style = drawn(2, 16, 4, 4), drawn(2, 8)
    parts, features = network.mlp(style).reshape(2, NARROW.blocks, 64), content
    for number, block in enumerate(network.decoder.blocks):
        inner = normalised(block.conv1(features), parts[:, number, :32]).relu()
        features = features + normalised(block.conv2(inner), parts[:, number, 32:])
    for up in (network.decoder.up1, network.decoder.up2):
        features = up(F.interpolate(features, scale_factor=2.0))
    torch.testing.assert_close(network.decode(content, style), network.decoder.head(features))


def test_calls_in_one_graph_do_not_disturb_each_other():
    """Gradients of two translations at once are those of one after the other."""
    content, styles = drawn(1, 16, 4, 4), drawn(2, 1, 8)

    def gradients(*parts: int) -> list[Tensor]:
        network = made(GENERATORS[1]).double()
        outputs = [network.decode(content.double(), styles[part].double()) for part in parts]
        sum(output.square().sum() for output in outputs).backward()
        return [parameter.grad for parameter in (*network.decoder.parameters(), *network.mlp.parameters())]

    for both, first, second in zip(gradients(0, 1), gradients(0), gradients(1), strict=True):
        torch.testing.assert_close(both, first + second)


def test_scales_look_at_averaged_images():
    network, images = made(DISCRIMINATORS[1]), drawn(1, 1, 32, 32)
    counted = F.avg_pool2d(torch.ones(1, 1, 32, 32), 3, stride=2, padding=1)
    halved = F.avg_pool2d(images, 3, stride=2, padding=1) / counted
    fine, coarse = network(images)
    torch.testing.assert_close(fine, network.scales[0](images))
    torch.testing.assert_close(coarse, network.scales[1](halved))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (DISCRIMINATORS[0], 70),
        (partial(MultiScaleDiscriminator, NARROW), 10),
        (partial(MultiScaleDiscriminator, replace(NARROW, layers=4)), 46),
    ],
)
def test_a_score_sees_a_patch(make, field):
    network, images = made(make).double(), drawn(1, 1, 128, 128).double().requires_grad_()
    for layers in [part for part in network.modules() if isinstance(part, nn.Sequential)]:
        for name, layer in layers.named_children():
            if isinstance(layer, nn.InstanceNorm2d):  # it looks at the whole image
                setattr(layers, name, nn.Identity())
    (scores,) = network(images)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    seen = images.grad[0, 0].nonzero()
    assert (seen.amax(dim=0) - seen.amin(dim=0) + 1).tolist() == [field, field]


@pytest.mark.parametrize("make", [*GENERATORS, *DISCRIMINATORS])
def test_gradients_reach_every_parameter_bit_equally(make):
    """But for biases that instance norm takes out again."""

    def gradients() -> dict[str, Tensor]:
        network = made(make).double()
        output = network(drawn(2, 1, 32, 32).double())
        maps = output if isinstance(output, tuple) else (output,)
        sum((part - 0.5).square().sum() for part in maps).backward()
        return {name: parameter.grad for name, parameter in network.named_parameters()}

    first = gradients()
    assert same(first, gradients())
    largest = max(float(gradient.abs().max()) for gradient in first.values())
    idle = {name for name, gradient in first.items() if float(gradient.abs().max()) < 1e-12 * largest}
    assert idle == biases_before_instance_norm(make())


def biases_before_instance_norm(network: nn.Module) -> set[str]:
    names = {f"{name}.bias" for name, _ in network.named_modules() if name.endswith(("conv1", "conv2"))}
    for prefix, layers in network.named_modules():
        if isinstance(layers, nn.Sequential):
            for number in range(1, len(layers)):
                if isinstance(layers[number], nn.InstanceNorm2d):
                    names.add(f"{prefix}.{number - 1}.bias")
    return names


# --- first weights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [partial(Generator, width=16), partial(PatchDiscriminator, width=16),
                                  partial(MultiScaleDiscriminator, replace(DEEP, width=16)),
                                  partial(AutoEncoder, replace(SMALL, width=16))])  # fmt: skip
def test_weights_are_normal_with_the_published_deviation(make):
    torch.manual_seed(3)
    network = made(make)
    for name, layer in network.named_modules():
        if isinstance(layer, nn.GroupNorm):
            assert layer.weight.unique().tolist() == [1.0]
            assert layer.bias.unique().tolist() == [0.0]
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            values = layer.weight.detach().double().flatten()
            fan_in = values.numel() / len(layer.weight)
            expected = (2 / fan_in) ** 0.5 if isinstance(network, AutoEncoder) else 0.02
            # Four and a half standard errors of a measured deviation.
            assert float(values.std()) == pytest.approx(expected, rel=4.5 / (2 * len(values)) ** 0.5), name
            assert bool((layer.bias == 0).all()), name
    torch.manual_seed(4)
    assert same(copied(made(make)), copied(network))
    assert not same(copied(made(make, seed=2)), copied(network))
