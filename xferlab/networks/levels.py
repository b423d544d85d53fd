"""The levels of networks of whole images: one for each of the five resolutions that a trunk goes through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import cast

from torch import nn

from xferlab.networks.efficientnet import EfficientNetLite0
from xferlab.networks.resnet import ResNet18
from xferlab.networks.vgg import VGG

Level = tuple[nn.Module, tuple[nn.Module, ...]]
"""The module that gives a level's features, and those whose convolutions lead from the one before to it."""

_LITE0_BLOCKS = (1, 3, 5, 11)
"""Blocks up to the end of each resolution but the last, which ends behind the last convolution."""


def levels_of(network: nn.Module) -> Mapping[str, Level]:
    """Returns the levels of a network, `level1` to `level5`, in the order of the forward pass.

    Args:
        network: A `VGG`, `ResNet18` or `EfficientNetLite0`.
    """
    if isinstance(network, VGG):
        levels = list(_blocks(cast("nn.Sequential", network.features)))
    elif isinstance(network, ResNet18):
        stages = (network.layer1, network.layer2, network.layer3, network.layer4)
        levels = [(network.relu, (network.conv1,)), *((stage, (stage,)) for stage in stages)]
    elif isinstance(network, EfficientNetLite0):
        levels = _of_lite0(network)
    else:
        raise TypeError(f"{type(network).__name__} is no network of whole images")
    return {f"level{number}": level for number, level in enumerate(levels, start=1)}


def _blocks(trunk: nn.Sequential) -> Iterator[Level]:
    """Each ends before a pooling, or with the trunk."""
    block: list[nn.Module] = []
    for module in (*trunk, nn.MaxPool2d(2)):
        if isinstance(module, nn.MaxPool2d):
            yield block[-1], tuple(part for part in block if isinstance(part, nn.Conv2d))
            block = []
        else:
            block.append(module)


def _of_lite0(network: EfficientNetLite0) -> list[Level]:
    blocks, starts = list(network._blocks), (0, *_LITE0_BLOCKS)
    levels: list[Level] = [(blocks[end - 1], tuple(blocks[start:end])) for start, end in pairwise(starts)]
    (_, first), last = levels[0], tuple(blocks[starts[-1] :])
    levels[0] = blocks[_LITE0_BLOCKS[0] - 1], (network._conv_stem, *first)
    return [*levels, (network._last_relu, (*last, network._conv_head))]
