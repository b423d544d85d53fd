"""ResNet-18 (He et al. 2016, table 1).

The names of its parts are those of the published weights (torchvision), so that their state dict loads as it
is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xferlab.networks.batch_norm import BatchNorm2d
from xferlab.networks.head import GlobalPool, Head
from xferlab.networks.image_network import ImageNetwork, Level
from xferlab.networks.names import LayerNames
from xferlab.networks.standardise import Standardise
from xferlab.networks.width import scaled

NAMES = LayerNames(
    first="conv1.weight", offset="bn1.running_mean", head="fc.", output="fc.", features="layer4"
)

_WIDTHS = (64, 128, 256, 512)


class ResNet18(ImageNetwork):
    """A 7x7 convolution, a 3x3 max pooling, and eight residual blocks of two 3x3 convolutions.

    Stages of two blocks have widths 64, 128, 256 and 512; from the second on, the first convolution of a
    stage halves the image, and a 1x1 convolution with batch normalisation fits the shortcut (option B).
    11,689,512 parameters for 3 channels and 1000 outputs.

    Images have at least 33 px a side where a single one is trained on: batch normalisation needs two values
    of a channel.

    Args:
        in_channels: Channels of the images.
        out_channels: Number of outputs.
        head: What takes the features in place of the own head (mean, one fully connected layer); None for
            the own one.
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
        widths = [scaled(channels, width) for channels in _WIDTHS]
        self.conv1 = nn.Conv2d(in_channels, widths[0], kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _stage(widths[0], widths[0], stride=1)
        self.layer2 = _stage(widths[0], widths[1], stride=2)
        self.layer3 = _stage(widths[1], widths[2], stride=2)
        self.layer4 = _stage(widths[2], widths[3], stride=2)
        self.pool = GlobalPool()
        if not self.takes(head, in_features=widths[3], out_features=out_channels):
            self.fc = nn.Linear(widths[3], out_channels)

    def features(self, images: Tensor) -> Tensor:
        """Returns what the last block gives, `(N, 512, H / 32, W / 32)` rounded up at width 1, 0 or more."""
        level: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            level = stage(level)
        return level

    def levels(self) -> list[Level]:
        """Returns the first convolution with its ReLU, and the stages."""
        stages = (self.layer1, self.layer2, self.layer3, self.layer4)
        return [(self.relu, (self.conv1,)), *((stage, (stage,)) for stage in stages)]

    def own_head(self, features: Tensor) -> Tensor:
        """Returns the logits of what `features` gives."""
        logits: Tensor = self.fc(self.pool(features))
        return logits


class _Block(nn.Module):
    """Two 3x3 convolutions, each with batch normalisation, and the shortcut; ReLU after the sum."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int):
        super().__init__()
        self.conv1 = _convolution(in_channels, out_channels, kernel=3, stride=stride)
        self.bn1 = BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _convolution(out_channels, out_channels, kernel=3, stride=1)
        self.bn2 = BatchNorm2d(out_channels)
        self.downsample: nn.Sequential | None = None
        if stride != 1:
            shortcut = _convolution(in_channels, out_channels, kernel=1, stride=stride)
            self.downsample = nn.Sequential(shortcut, BatchNorm2d(out_channels))

    def forward(self, images: Tensor) -> Tensor:
        shortcut = images if self.downsample is None else self.downsample(images)
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(images)))))
        return torch.relu(residual + shortcut)


def _stage(in_channels: int, out_channels: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        _Block(in_channels, out_channels, stride=stride), _Block(out_channels, out_channels, stride=1)
    )


def _convolution(in_channels: int, out_channels: int, *, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels, out_channels, kernel_size=kernel, stride=stride, padding=kernel // 2, bias=False
    )
