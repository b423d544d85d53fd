"""Networks by name, and their initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor, nn

from xferlab import plugins
from xferlab.errors import PluginError
from xferlab.networks import (
    cyclegan,
    efficientnet,
    fc_densenet,
    fcn,
    munit,
    resnet,
    segnet,
    unet,
    vgg,
)
from xferlab.networks.head import Head
from xferlab.networks.names import LayerNames
from xferlab.networks.standardise import Standardise
from xferlab.networks.translator import TRANSLATOR, Translator

NETWORKS: Mapping[str, Callable[..., nn.Module]] = {
    "unet": unet.UNet,
    "unet_dropout": unet.UNetDropout,
    "unet_instance": unet.UNetInstance,
    **{name: partial(fc_densenet.FCDenseNet, design=design) for name, design in fc_densenet.DESIGNS.items()},
    **{name: partial(fcn.FCN, design=design) for name, design in fcn.DESIGNS.items()},
    "segnet": segnet.SegNet,
    "vgg16": partial(vgg.VGG, convolutions=(2, 2, 3, 3, 3)),
    "vgg19": partial(vgg.VGG, convolutions=(2, 2, 4, 4, 4)),
    "resnet18": resnet.ResNet18,
    "efficientnet_lite0": efficientnet.EfficientNetLite0,
}

NAMES: Mapping[str, LayerNames] = {
    **unet.NAMES,
    **dict.fromkeys(fc_densenet.DESIGNS, fc_densenet.NAMES),
    "segnet": segnet.NAMES,
    **dict.fromkeys(fcn.DESIGNS, fcn.NAMES),
    "vgg16": vgg.NAMES,
    "vgg19": vgg.NAMES,
    "resnet18": resnet.NAMES,
    "efficientnet_lite0": efficientnet.NAMES,
}
"""Where the first and last layers of each network are; `network_in` takes the first of these that fits."""


def network_in(state: Mapping[str, Tensor]) -> str | None:
    """Returns the name of the network that a state dict is of; of `vgg16` and `vgg19`, the first.

    None if it has the first layers of none.
    """
    if design := fc_densenet.design_in(state):
        return design[0]
    if name := fcn.design_in(state):
        return name
    return next((name for name, names in NAMES.items() if {names.first, names.offset} <= state.keys()), None)


_Weighted = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


class Options(TypedDict, total=False):
    """What some networks take beside the channels.

    Attributes:
        init_features: Width of the first level of a `unet`, `unet_dropout` or `unet_instance`.
        growth: Channels that each dense layer of an `fc_densenet...` adds; None for its own number.
        translator: New layers at the end of one of these or of `segnet`, in place of its own head; None for
            none.
        head: A head for features of a network of whole images, in place of its own; None for its own.
        width: What all numbers of channels of such a network, a `segnet` or an `fcn...` are multiplied by
            (`width.scaled`), and those of the given head; None for 1.
        standardise: What images of a network of whole images go through first; None leaves them as they are.
    """

    init_features: int | None
    growth: int | None
    translator: Translator | None
    head: Head | None
    width: float | None
    standardise: Standardise | None


def build(
    name: str, *, in_channels: int, out_channels: int, package: str | None = None, **options: Unpack[Options]
) -> nn.Module:
    """Returns a new network, on the current device, in float32 and training mode; its weights are arbitrary.

    Args:
        name: A key of `NETWORKS`, or a network of an installed package.
        in_channels: Channels of the images.
        out_channels: Channels of the output, or number of outputs of a network of whole images.
        package: Name and version of the package that the network must come from; None for those here.
        **options: What only some networks take.

    Raises:
        PluginError: The package's network cannot be used, or is of another version.
    """
    plugins.check_release(plugins.NETWORKS, name, package, built_in=NETWORKS)
    if plugin := plugins.find(plugins.NETWORKS, name, built_in=NETWORKS):
        return _added(plugin, in_channels=in_channels, out_channels=out_channels)
    given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    if "width" in given and "head" in given:
        given["head"] = given["head"].scaled(given["width"])
    return NETWORKS[name](in_channels=in_channels, out_channels=out_channels, **given)


def _added(plugin: plugins.Plugin, *, in_channels: int, out_channels: int) -> nn.Module:
    expected = "a class of torch.nn.Module, or a function that returns a network"
    make = plugin.load(callable, expected=expected)
    try:
        network = make(in_channels=in_channels, out_channels=out_channels)
    except TypeError as error:
        raise PluginError(f"{plugin}: cannot be made with in_channels and out_channels: {error}") from error
    if not isinstance(network, nn.Module):
        raise PluginError(f"{plugin}: made a value of {type(network).__name__}; accepted: {expected}")
    return network


@torch.no_grad()
def initialise(model: nn.Module, seed: int) -> None:
    """Draws all weights of `model` as a function of `seed` alone.

    Convolutions and linear layers get weights and biases uniform in +-1 / sqrt(fan in), as by PyTorch's
    default; norms get scale 1, shift 0 and fresh statistics. Neither the global generator nor the number of
    threads matters.

    Networks without batch normalisation (`unet_dropout`, `vgg16`, `vgg19`, `fcn...`) start otherwise, but for
    a translator, since deviations shrink there from layer to layer: 3x3 and larger convolutions from a normal
    distribution of deviation sqrt(2 / fan in) (He et al. 2015; arias-garzon2021), all else uniform in
    +-sqrt(6 / (fan in + fan out)) (Glorot and Bengio 2010), and biases 0.

    Networks that translate images start as published, with biases 0: those of `cyclegan` and the
    discriminator of `munit` from a normal distribution of deviation 0.02 (Zhu et al. 2017, appendix 7.1), the
    auto-encoder of `munit` from one of deviation sqrt(2 / fan in) (Huang et al. 2018, and their code for
    both). Two networks of one kind, size and seed are equal.

    The upsampling of an `fcn...` is bilinear. A module of another kind that has parameters of its own draws
    them in its method `initialise(generator)`.

    Args:
        model: A network on any device; changed in place.
        seed: At least 0. PyTorch's CPU generator looks at its low 32 bits only.

    Raises:
        NotImplementedError: A module has parameters of its own and is of a kind that has no rule here.
    """
    generator = torch.Generator().manual_seed(seed)
    rule = _rule_of(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d | nn.GroupNorm | fcn.Upsampling):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            draw = _uniform if name.startswith(TRANSLATOR) else rule
            draw(module, generator)
        elif callable(getattr(module, "initialise", None)):
            module.initialise(generator)
        elif any(True for _ in module.parameters(recurse=False)):
            raise NotImplementedError(f"{name}: no rule for the initial weights of a {type(module).__name__}")


def _rule_of(model: nn.Module) -> Callable[[_Weighted, torch.Generator], None]:
    if isinstance(model, unet.UNetDropout | vgg.VGG | fcn.FCN):
        return _he_or_glorot
    if isinstance(model, cyclegan.Generator | cyclegan.PatchDiscriminator | munit.MultiScaleDiscriminator):
        return _narrow
    return _he if isinstance(model, munit.AutoEncoder) else _uniform


def _he_or_glorot(module: _Weighted, generator: torch.Generator) -> None:
    if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
        _he(module, generator)
    else:
        weight = torch.empty(module.weight.shape)
        _set(module, nn.init.xavier_uniform_(weight, generator=generator))


def _he(module: _Weighted, generator: torch.Generator) -> None:
    weight = torch.empty(module.weight.shape)
    _set(module, nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator))


def _narrow(module: _Weighted, generator: torch.Generator) -> None:
    _set(module, torch.empty(module.weight.shape).normal_(std=0.02, generator=generator))


def _set(module: _Weighted, weight: Tensor) -> None:
    module.weight.copy_(weight)
    if module.bias is not None:
        module.bias.zero_()


def _uniform(module: _Weighted, generator: torch.Generator) -> None:
    # All kinds take the second dimension of the weight for the fan, as PyTorch's own reset does.
    bound = 1 / math.sqrt(math.prod(module.weight.shape[1:]))
    for parameter in (module.weight, module.bias):
        if parameter is not None:
            parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
