"""FCN-8s and FCN-32s (Long, Shelhamer and Darrell 2015): VGG16 whose fully connected layers are convolutions.

The trunk's parts have the names of those of `unet`, so that freezing, new heads and deep features know them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from xferlab.networks.dropout import Dropout
from xferlab.networks.names import LayerNames
from xferlab.networks.vgg import HIDDEN, SIDE, WIDTHS
from xferlab.networks.vgg_levels import FIRST, trunk
from xferlab.networks.width import scaled

NAMES = LayerNames(first=FIRST, offset="encoder1.conv1.bias", head="conv.", output="conv.")

_PADDING = 100
"""Of the first convolution in pixels, so that `fc6` sees something of small images."""


class Skip(NamedTuple):
    """A level whose pooled features are scored, too.

    Attributes:
        level: Its number.
        offset: Cells before the first one that the upsampled scores reach.
    """

    level: int
    offset: int


class Design(NamedTuple):
    """What the networks differ in; `fc7` has a cell for each 32 pixels.

    Attributes:
        skips: Levels whose scores are added, from the coarsest on, each after an upsampling by two.
        stride: Of the last upsampling.
        offset: Pixels of its output before the image begins.
    """

    skips: tuple[Skip, ...]
    stride: int
    offset: int


# A cell of pooled features lies 99 pixels before its place without the padding, and one of `fc7` three cells
# behind that. An upsampling by s puts the middle of a cell at the middle of 2s of its own.
DESIGNS: Mapping[str, Design] = {
    "fcn8s": Design((Skip(4, 5), Skip(3, 9)), stride=8, offset=31),
    "fcn32s": Design((), stride=32, offset=19),
}
"""By name."""


class Upsampling(nn.ConvTranspose2d):
    """A transposed convolution without bias that upsamples each channel, bilinearly until it is trained.

    Args:
        channels: Channels of input and output.
        stride: How many times as large the output is; kernels have twice this side.
    """

    def __init__(self, channels: int, stride: int):
        super().__init__(channels, channels, kernel_size=2 * stride, stride=stride, bias=False)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Sets the weights of bilinear interpolation (Long et al. 2015, section 3.3)."""
        stride = self.stride[0]
        line = 1.0 - (torch.arange(2 * stride) - (stride - 0.5)).abs() / stride
        channels = torch.eye(self.in_channels)[:, :, None, None]
        self.weight.copy_(channels * line[:, None] * line)


class Scores(nn.Module):
    """The head: scores of `fc7` and of pooled features by 1x1 convolutions, upsampled and added.

    Args:
        design: What is scored.
        channels: Of `fc7`, and of the features of each skip.
        out_channels: Number of scores.
    """

    def __init__(self, design: Design, channels: Sequence[int], out_channels: int):
        super().__init__()
        self._design = design
        self.fc7 = nn.Conv2d(channels[0], out_channels, kernel_size=1)
        for skip, incoming in zip(design.skips, channels[1:], strict=True):
            self.add_module(f"pool{skip.level}", nn.Conv2d(incoming, out_channels, kernel_size=1))
            self.add_module(f"up{skip.level}", Upsampling(out_channels, 2))
        self.up = Upsampling(out_channels, design.stride)

    def forward(self, features: Tensor, pooled: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Returns scores `(N, out_channels, H, W)` of an image of the size (H, W).

        Args:
            features: What `fc7` gives.
            pooled: Pooled features of each skip.
            size: Of the image.
        """
        scores: Tensor = self.fc7(features)
        for skip, below in zip(self._design.skips, pooled, strict=True):
            upsampled = self.get_submodule(f"up{skip.level}")(scores)
            own = self.get_submodule(f"pool{skip.level}")(below)
            scores = upsampled + _cropped(own, skip.offset, upsampled.shape[2:])
        return _cropped(self.up(scores), self._design.offset, size)


class FCN(nn.Module):
    """A fully convolutional network on VGG16 (Long et al. 2015), with dropout 0.5 after `fc6` and `fc7`.

    The trunk is VGG16's without batch normalisation; its first convolution pads by 100 pixels, and poolings
    round up. `fc6` is a 7x7 convolution, `fc7` a 1x1 one. FCN-32s upsamples the scores of `fc7` 32 times.
    FCN-8s adds scores of the fourth and third pooling on the way. Upsampling is learnt.

    Parameters for two outputs: FCN-8s 134,271,430 with three channels and 134,270,278 with one, FCN-32s
    134,285,122 with three.

    Args:
        design: What is scored.
        in_channels: Channels of the images.
        out_channels: Channels of the output.
        width: What all numbers of channels but those of the output are multiplied by (`width.scaled`).
    """

    def __init__(self, *, design: Design, in_channels: int = 3, out_channels: int = 1, width: float = 1.0):
        super().__init__()
        self._skips = [skip.level for skip in design.skips]
        for name, part in trunk(in_channels, width, normalised=False, padding=_PADDING).items():
            self.add_module(name, part)
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2, ceil_mode=True)
        hidden = scaled(HIDDEN, width)
        self.bottleneck = _fully_convolutional(scaled(WIDTHS[-1], width), hidden)
        skipped = [scaled(WIDTHS[number - 1], width) for number in self._skips]
        self.conv = Scores(design, [hidden, *skipped], out_channels)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits `(N, out_channels, H, W)` of images `(N, in_channels, H, W)` of any size."""
        features, pooled = images, dict[int, Tensor]()
        for number in range(1, len(WIDTHS) + 1):
            features = self.pool(self.get_submodule(f"encoder{number}")(features))
            pooled[number] = features
        skipped = [pooled[number] for number in self._skips]
        height, width = images.shape[2:]
        logits: Tensor = self.conv(self.bottleneck(features), skipped, (height, width))
        return logits


def design_in(state: Mapping[str, Tensor]) -> str | None:
    """Returns the name of the network whose weights a state dict holds; None if it is neither of these.

    It is read from names alone; loading checks the rest.
    """
    if not {NAMES.first, "bottleneck.fc6.weight"} <= state.keys():
        return None
    scored = {key.split(".")[1] for key in state if key.startswith(f"{NAMES.head}pool")}
    names = (name for name, design in DESIGNS.items() if scored == {f"pool{s.level}" for s in design.skips})
    return next(names, None)


def _fully_convolutional(in_channels: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            fc6=nn.Conv2d(in_channels, hidden, kernel_size=SIDE),
            relu6=nn.ReLU(inplace=True),
            dropout6=Dropout(0.5),
            fc7=nn.Conv2d(hidden, hidden, kernel_size=1),
            relu7=nn.ReLU(inplace=True),
            dropout7=Dropout(0.5),
        )
    )


def _cropped(values: Tensor, offset: int, size: Sequence[int]) -> Tensor:
    return values[:, :, offset : offset + size[0], offset : offset + size[1]]
