"""FC-DenseNet (Jégou et al. 2017): a U-Net whose levels are dense blocks; five down, a bottleneck, five up.

Its parts have the names of those of `unet`, so that freezing, translators, heads and deep features know them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xferlab.networks.batch_norm import BatchNorm2d
from xferlab.networks.dropout import Dropout
from xferlab.networks.names import LayerNames
from xferlab.networks.translator import Translatable, Translator
from xferlab.networks.upsampling import TransposedConv2d

NAMES = LayerNames(first="encoder1.conv.weight", offset="encoder1.conv.bias", head="conv.", output="conv.")

_RATE = 0.2
"""Probability of dropout of a channel."""


@dataclass(frozen=True)
class Design:
    """What the published networks differ in.

    Attributes:
        levels: Dense layers of the encoder's levels, downwards; those of the decoder mirror them.
        bottleneck: Dense layers of the bottleneck.
        growth: Channels that each dense layer adds, unless a network is built with another number.
        first: How many times as many channels the first convolution has.
    """

    levels: tuple[int, ...]
    bottleneck: int
    growth: int
    first: int


DESIGNS: Mapping[str, Design] = {
    "fc_densenet103": Design((4, 5, 7, 10, 12), bottleneck=15, growth=16, first=3),
    "fc_densenet67": Design((5, 5, 5, 5, 5), bottleneck=5, growth=16, first=3),
    "fc_densenet56": Design((4, 4, 4, 4, 4), bottleneck=4, growth=12, first=4),
}
"""By name, as in table 3 of Jégou et al. 2017; the number is that of layers with weights."""


class DenseBlock(nn.Sequential):
    """Dense layers, each of which sees the block's input and what all layers before it gave.

    A layer is batch normalisation, ReLU, a 3x3 convolution to `growth` channels, and dropout.

    Args:
        in_channels: Channels of the input.
        count: Number of layers.
        growth: Channels that each adds.
        keeps_input: Whether the output begins with the input; else it is what the layers gave.
    """

    def __init__(self, in_channels: int, count: int, growth: int, *, keeps_input: bool = True):
        widths = [in_channels + number * growth for number in range(count)]
        super().__init__(*(_normalised(width, growth, kernel_size=3) for width in widths))
        self._skipped = 0 if keeps_input else in_channels
        self.out_channels = in_channels + count * growth - self._skipped

    def forward(self, features: Tensor) -> Tensor:
        """Returns `(N, out_channels, H, W)` of features `(N, in_channels, H, W)`."""
        for layer in self:
            features = torch.cat([features, layer(features)], dim=1)
        return features[:, self._skipped :]


class FCDenseNet(Translatable):
    """FC-DenseNet (Jégou et al. 2017), with dropout of whole channels at 0.2 in each layer after a ReLU.

    - Level of the encoder: a dense block that keeps its input. Between two levels, batch normalisation, ReLU,
      a 1x1 convolution of the same width, dropout and 2x2 max pooling go down.
    - Bottleneck: a dense block, of which what its layers gave goes on.
    - Level of the decoder: a 3x3 transposed convolution of stride 2 goes up, cropped to the encoder's output,
      which is appended. Of the dense block that follows, what its layers gave goes on; the last block keeps
      its input, too.

    Parameters for one channel in and four out: 9,319,428 (`fc_densenet103`), 3,460,356 (`fc_densenet67`) and
    1,374,580 (`fc_densenet56`).

    Args:
        design: Numbers of layers and channels.
        in_channels: Channels of the images.
        out_channels: Channels of the output.
        growth: Channels that each dense layer adds; None for the design's.
        translator: New layers that the last features go through, in place of the 1x1 head; None for none.
    """

    def __init__(
        self,
        *,
        design: Design,
        in_channels: int = 1,
        out_channels: int = 1,
        growth: int | None = None,
        translator: Translator | None = None,
    ):
        super().__init__()
        growth = growth or design.growth
        self._depth, width = len(design.levels), design.first * growth
        start: nn.Module = nn.Conv2d(in_channels, width, kernel_size=3, padding=1)
        widths, name = list[int](), "conv"
        for number, count in enumerate(design.levels, start=1):
            block = DenseBlock(width, count, growth)
            self.add_module(f"encoder{number}", _parts({name: start, "block": block}))
            width, name = block.out_channels, "down"
            start = _down(width)
            widths.append(width)
        block = DenseBlock(width, design.bottleneck, growth, keeps_input=False)
        self.bottleneck = _parts({name: start, "block": block})
        for number in range(self._depth, 0, -1):
            channels = block.out_channels
            up = TransposedConv2d(channels, channels, kernel_size=3, stride=2)
            self.add_module(f"upconv{number}", up)
            width = block.out_channels + widths[number - 1]
            block = DenseBlock(width, design.levels[number - 1], growth, keeps_input=number == 1)
            self.add_module(f"decoder{number}", block)
        self.add_head(translator, in_channels=block.out_channels, out_channels=out_channels)

    def features(self, images: Tensor) -> Tensor:
        """Returns what the last decoder level gives, `(N, K, H, W)`: K is 256 in `fc_densenet103`."""
        skips, features = list[Tensor](), images
        for number in range(1, self._depth + 1):
            features = self._through(f"encoder{number}", features)
            skips.append(features)
        features = self._through("bottleneck", features)
        for number in range(self._depth, 0, -1):
            skip = skips[number - 1]
            up = _cropped(self._through(f"upconv{number}", features), skip)
            features = self._through(f"decoder{number}", torch.cat([up, skip], dim=1))
        return features

    def _through(self, part: str, features: Tensor) -> Tensor:
        output: Tensor = self.get_submodule(part)(features)
        return output


def design_in(state: Mapping[str, Tensor]) -> tuple[str, int] | None:
    """Returns name and growth of the network whose weights a state dict holds; None if it is none of these.

    Both are read from names and from one convolution alone; loading checks the rest.
    """
    count = len({key.split(".")[2] for key in state if key.startswith("bottleneck.block.")})
    name = next((name for name, design in DESIGNS.items() if design.bottleneck == count), None)
    kernels = state.get("bottleneck.block.0.conv.weight")
    return None if name is None or kernels is None or kernels.ndim != 4 else (name, len(kernels))


def _parts(parts: Mapping[str, nn.Module]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(parts))


def _normalised(in_channels: int, out_channels: int, *, kernel_size: int) -> nn.Sequential:
    """Batch normalisation, ReLU, convolution and dropout."""
    return _parts(
        {
            "norm": BatchNorm2d(in_channels),
            "relu": nn.ReLU(inplace=True),
            "conv": nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2),
            "dropout": Dropout(_RATE, whole_channels=True),
        }
    )


def _down(channels: int) -> nn.Sequential:
    layer = _normalised(channels, channels, kernel_size=1)
    layer.add_module("pool", nn.MaxPool2d(kernel_size=2, stride=2))
    return layer


def _cropped(values: Tensor, like: Tensor) -> Tensor:
    """The centre of the values, at the size of others."""
    height, width = like.shape[2:]
    top, left = (values.shape[2] - height) // 2, (values.shape[3] - width) // 2
    return values[:, :, top : top + height, left : left + width]
