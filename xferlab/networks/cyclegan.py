"""The networks of CycleGAN (Zhu et al. 2017, appendix 7.2): a generator, and the 70x70 patch discriminator.

All convolutions have biases, and instance norm has no parameters. Where instance norm follows a convolution,
it takes the bias out again; such biases have no effect and no gradient.
"""

from __future__ import annotations

from torch import Tensor, nn

from xferlab.networks.residual import ReflectedConv, ResidualBlock, activated, check_sides
from xferlab.networks.upsampling import TransposedConv2d

MULTIPLE_PX = 4
"""Sides of images that a generator takes are multiples of it: it halves them twice."""

SMALLEST_PX = 24
"""Least side of images that the discriminator takes, and so of images that are trained on."""


class Generator(nn.Module):
    """Turns images into images of another domain, both in [-1, 1].

    A 7x7 convolution to `width` channels, two 3x3 convolutions of stride 2 that double them, residual blocks,
    two 3x3 transposed convolutions of stride 2 that halve them, a 7x7 convolution and tanh. After all but the
    last come instance norm and ReLU. The 7x7 convolutions and the blocks pad by reflection.

    Parameters for one channel: 11,365,633 (`width` 64, 9 blocks), 7,825,153 (64, 6 blocks) and 778,113 (32, 2
    blocks).

    Args:
        channels: Of the images, in and out.
        width: Channels of the first convolution.
        blocks: Number of residual blocks.
    """

    def __init__(self, *, channels: int = 1, width: int = 32, blocks: int = 2):
        super().__init__()
        self.down = nn.Sequential(
            *activated(ReflectedConv(channels, width, 7)),
            *activated(_halving(width, 2 * width)),
            *activated(_halving(2 * width, 4 * width)),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(4 * width) for _ in range(blocks)))
        self.up = nn.Sequential(
            *activated(_doubling(4 * width, 2 * width)),
            *activated(_doubling(2 * width, width)),
            ReflectedConv(width, channels, 7),
            nn.Tanh(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Returns images of the shape of the input, in [-1, 1].

        Args:
            images: `(N, channels, H, W)` in [-1, 1]; H and W are multiples of 4, at least 8.

        Raises:
            TrainingError: They have another size.
        """
        check_sides(images, smallest_px=2 * MULTIPLE_PX, multiple_px=MULTIPLE_PX)
        generated: Tensor = self.up(self.blocks(self.down(images)))
        return generated


class PatchDiscriminator(nn.Module):
    """Scores how real each patch of 70x70 px is: five 4x4 convolutions, the first three of stride 2.

    They have `width`, 2, 4 and 8 times `width`, and 1 channels, and zero padding of 1. Leaky ReLU of slope
    0.2 follows all but the last, and instance norm precedes it but for the first. 2,762,689 parameters for
    one channel and `width` 64.

    Args:
        channels: Of the images.
        width: Channels of the first convolution.
    """

    def __init__(self, *, channels: int = 1, width: int = 64):
        super().__init__()
        self.layers = nn.Sequential(
            _seeing(channels, width, stride=2),
            nn.LeakyReLU(0.2, inplace=True),
            *activated(_seeing(width, 2 * width, stride=2), slope=0.2),
            *activated(_seeing(2 * width, 4 * width, stride=2), slope=0.2),
            *activated(_seeing(4 * width, 8 * width, stride=1), slope=0.2),
            _seeing(8 * width, 1, stride=1),
        )

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Returns one map of scores, `(N, 1, h, w)` with h = floor(H / 8) - 2: 30 for 256 px, 10 for 96.

        Args:
            images: `(N, channels, H, W)`; H and W are at least 24.

        Raises:
            TrainingError: They are smaller.
        """
        check_sides(images, smallest_px=SMALLEST_PX)
        return (self.layers(images),)


def _halving(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1)


def _doubling(in_channels: int, out_channels: int) -> TransposedConv2d:
    return TransposedConv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1, output_padding=1)


def _seeing(in_channels: int, out_channels: int, *, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=4, stride=stride, padding=1)
