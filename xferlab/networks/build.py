"""Networks by name, and their initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import nn

from xferlab.networks.translator import Translator
from xferlab.networks.unet import UNet

NETWORKS: Mapping[str, Callable[..., nn.Module]] = {"unet": UNet}


def build(
    name: str,
    *,
    in_channels: int,
    out_channels: int,
    init_features: int,
    translator: Translator | None = None,
) -> nn.Module:
    """Returns a new network, on the CPU, in float32 and in training mode; its weights are arbitrary.

    Args:
        name: A key of `NETWORKS`.
        in_channels: Channels of the images.
        out_channels: Channels of the output.
        init_features: Width of the first level.
        translator: New layers at the end, in place of the network's own head; None for none.
    """
    added = {} if translator is None else {"translator": translator}
    return NETWORKS[name](
        in_channels=in_channels, out_channels=out_channels, init_features=init_features, **added
    )


@torch.no_grad()
def initialise(model: nn.Module, seed: int) -> None:
    """Draws all weights of `model` from PyTorch's default distributions, as a function of `seed` alone.

    Convolutions and linear layers get weights and biases uniform in +-1 / sqrt(fan in), batch normalisation
    gets scale 1, shift 0 and fresh statistics. Neither the global generator nor the number of threads
    matters.

    Args:
        model: A network on any device; changed in place.
        seed: At least 0. PyTorch's CPU generator looks at its low 32 bits only.

    Raises:
        NotImplementedError: A module has parameters of its own and is of a kind that has no rule here.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            _initialise_weights(module, generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif any(True for _ in module.parameters(recurse=False)):
            raise NotImplementedError(f"{name}: no rule for the initial weights of a {type(module).__name__}")


def _initialise_weights(
    module: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, generator: torch.Generator
) -> None:
    # All kinds take the second dimension of the weight for the fan, as PyTorch's own reset does.
    bound = 1 / math.sqrt(math.prod(module.weight.shape[1:]))
    for parameter in (module.weight, module.bias):
        if parameter is not None:
            parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
