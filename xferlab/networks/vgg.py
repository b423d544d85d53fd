"""VGG16 and VGG19 (Simonyan and Zisserman 2015, table 1, configurations D and E).

The names of their parts are those of the published weights (torchvision), so that their state dicts load as
they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xferlab.networks.dropout import Dropout
from xferlab.networks.head import Head
from xferlab.networks.image_network import ImageNetwork, Level
from xferlab.networks.names import LayerNames
from xferlab.networks.standardise import Standardise
from xferlab.networks.width import scaled

NAMES = LayerNames(
    first="features.0.weight",
    offset="features.0.bias",
    head="classifier.",
    output="classifier.6.",
    features="features",
)

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of each block."""
HIDDEN = 4096
"""Outputs of both hidden layers of the own head."""
SIDE = 7
"""Of the features that the own head takes, in pixels."""


class VGG(ImageNetwork):
    """Five blocks of 3x3 convolutions with ReLU, each followed by a 2x2 max pooling, and a head.

    Blocks have widths 64, 128, 256, 512 and 512. The own head is two fully connected layers of 4096, with
    dropout 0.5, and the output. Trunk and own head of 3 channels and 1000 outputs: VGG16 14,714,688 and
    123,642,856 parameters, VGG19 20,024,384 and 123,642,856.

    Images have at least 32 px a side. The own head was made for 224: it averages larger features down to 7x7,
    as `averaged` does.

    Args:
        convolutions: Number of convolutions of each block: (2, 2, 3, 3, 3) or (2, 2, 4, 4, 4).
        in_channels: Channels of the images.
        out_channels: Number of outputs.
        head: What takes the pooled features in place of the own head; None for the own one.
        width: What all numbers of channels are multiplied by, those of the own head's layers, too.
        standardise: What images go through first; None leaves them as they are.
    """

    def __init__(
        self,
        *,
        convolutions: Sequence[int],
        in_channels: int = 3,
        out_channels: int = 1000,
        head: Head | None = None,
        width: float = 1.0,
        standardise: Standardise | None = None,
    ):
        super().__init__(standardise)
        last = scaled(WIDTHS[-1], width)
        self.features = _trunk(in_channels, convolutions, width)
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2)
        if not self.takes(head, in_features=last, out_features=out_channels):
            self.classifier = _own_head(last, out_channels, scaled(HIDDEN, width))

    def levels(self) -> list[Level]:
        """Returns the blocks."""
        return list(_blocks(cast("nn.Sequential", self.features)))

    def classify(self, features: Tensor) -> Tensor:
        """Returns the logits of the last ReLU, `(N, 512, H / 16, W / 16)` at width 1."""
        return super().classify(self.pool(features))

    def own_head(self, pooled: Tensor) -> Tensor:
        """Returns the logits of pooled features."""
        logits: Tensor = self.classifier(_flat(pooled))
        return logits


def _trunk(in_channels: int, convolutions: Sequence[int], width: float) -> nn.Sequential:
    """The convolutions, without the last pooling, which belongs to what comes after the features."""
    parts: list[nn.Module] = []
    incoming = in_channels
    for full, count in zip(WIDTHS, convolutions, strict=True):
        channels = scaled(full, width)
        for _ in range(count):
            parts += [nn.Conv2d(incoming, channels, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
            incoming = channels
        parts.append(nn.MaxPool2d(kernel_size=2, stride=2))
    return nn.Sequential(*parts[:-1])


def _blocks(trunk: nn.Sequential) -> Iterator[Level]:
    """Each ends before a pooling, or with the trunk."""
    block: list[nn.Module] = []
    for module in (*trunk, nn.MaxPool2d(2)):
        if isinstance(module, nn.MaxPool2d):
            yield block[-1], tuple(part for part in block if isinstance(part, nn.Conv2d))
            block = []
        else:
            block.append(module)


def _flat(pooled: Tensor) -> Tensor:
    if pooled.shape[2:] != (SIDE, SIDE):
        pooled = averaged(pooled, SIDE)
    return torch.flatten(pooled, start_dim=1)


def averaged(values: Tensor, side: int) -> Tensor:
    """Returns what `F.adaptive_avg_pool2d` does, `(N, C, side, side)` of `(N, C, H, W)`.

    On CUDA its gradient raises where PyTorch is to be deterministic; there it is two products of matrices.
    """
    if not torch.are_deterministic_algorithms_enabled():
        return F.adaptive_avg_pool2d(values, side)
    with torch.autocast(values.device.type, enabled=False):
        rows, columns = (_shares(side, length, values.device) for length in values.shape[2:])
        return rows @ values.float() @ columns.T


def _shares(side: int, length: int, device: torch.device) -> Tensor:
    """The share of each of `length` values in each of `side` means, (side, length)."""
    number, place = torch.arange(side, device=device)[:, None], torch.arange(length, device=device)
    begin, end = number * length // side, ((number + 1) * length + side - 1) // side
    return ((place >= begin) & (place < end)) / (end - begin)


def _own_head(channels: int, out_channels: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels * SIDE * SIDE, hidden),
        nn.ReLU(inplace=True),
        Dropout(0.5),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        Dropout(0.5),
        nn.Linear(hidden, out_channels),
    )
