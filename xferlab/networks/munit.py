"""The networks of MUNIT (Huang et al. 2018, appendix B.2): an auto-encoder of a domain, and a discriminator.

All convolutions have biases and pad by reflection, but for the 1x1 convolutions, which do not pad.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from xferlab.networks.residual import ReflectedConv, ResidualBlock, activated, check_sides, doubled

MULTIPLE_PX = 4
"""Sides of images that an auto-encoder takes are multiples of it: the content has a quarter of them."""

SMALLEST_PX = 16
"""Least side of images that an auto-encoder takes: its style encoder halves it four times."""


@dataclass(frozen=True)
class Design:
    """Sizes of an auto-encoder and of its discriminator.

    Attributes:
        width: Channels of the first convolution of each.
        blocks: Residual blocks of the content encoder, and of the decoder.
        hidden: Width of the hidden layers that make the decoder's norms of a style.
        layers: Convolutions of the discriminator at each scale, but for the last, 1x1.
        scales: Resolutions at which the discriminator looks.
        style: Numbers in a style.
    """

    width: int
    blocks: int
    hidden: int
    layers: int
    scales: int
    style: int = 8


DESIGNS: Mapping[str, Design] = {
    "munit": Design(width=64, blocks=4, hidden=256, layers=4, scales=3),
    "munit_small": Design(width=32, blocks=2, hidden=32, layers=2, scales=1),
}
"""By name: as published, and as CoDAGANs (oliveira2018's successor by its first author) makes it."""


class AutoEncoder(nn.Module):
    """Takes images of one domain apart into content and style, and makes images of both.

    - Content encoder: a 7x7 convolution, two 4x4 convolutions of stride 2 that double the channels, and
      residual blocks; each convolution with instance norm and ReLU.
    - Style encoder: a 7x7 convolution, two 4x4 convolutions of stride 2 that double the channels, two more
      that keep them, each with ReLU; then the mean over all pixels, and a 1x1 convolution.
    - Decoder: residual blocks with adaptive instance norm, twice nearest upsampling and a 5x5 convolution
      that halves the channels, with layer norm and ReLU, then a 7x7 convolution and tanh.
    - `mlp`: three fully connected layers with ReLU between them make the norms' shifts and scales of a style.

    The layer norm takes mean and variance over all values of an image, and has a scale and a shift for each
    channel: that is group norm of one group. It divides by the root of variance + 1e-5; MUNIT adds 1e-5 to
    the deviation.

    Parameters for one channel: 2,330,505 (`munit_small`) and 15,007,369 (`munit`).

    Args:
        design: Sizes; `replace(DESIGNS["munit_small"], width=8)` makes a narrower one.
        channels: Of the images, in and out.
    """

    def __init__(self, design: Design, *, channels: int = 1):
        super().__init__()
        width = design.width
        self.style_encoder = _StyleEncoder(channels, width, design.style)
        self.content_encoder = nn.Sequential(
            *activated(ReflectedConv(channels, width, 7)),
            *activated(ReflectedConv(width, 2 * width, 4, stride=2)),
            *activated(ReflectedConv(2 * width, 4 * width, 4, stride=2)),
            *(ResidualBlock(4 * width) for _ in range(design.blocks)),
        )
        self.decoder = _Decoder(channels, width, design.blocks)
        self.mlp = nn.Sequential(
            nn.Linear(design.style, design.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(design.hidden, design.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(design.hidden, design.blocks * 4 * 4 * width),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Returns the images as their own content and style give them; errors as in `encode`."""
        return self.decode(*self.encode(images))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns content `(N, 4 width, H / 4, W / 4)` and style `(N, style)`.

        Args:
            images: `(N, channels, H, W)` in [-1, 1]; H and W are multiples of 4, at least 16.

        Raises:
            TrainingError: They have another size.
        """
        check_sides(images, smallest_px=SMALLEST_PX, multiple_px=MULTIPLE_PX)
        return self.content_encoder(images), self.style_encoder(images)

    def decode(self, content: Tensor, style: Tensor) -> Tensor:
        """Returns images `(N, channels, H, W)` in [-1, 1].

        Args:
            content: `(N, 4 width, H / 4, W / 4)`, of this or another domain.
            style: `(N, style)`, or `(1, style)` for all; a prior of styles is standard normal.
        """
        images: Tensor = self.decoder(content, self.mlp(style))
        return images


class _StyleEncoder(nn.Module):
    """See `AutoEncoder`."""

    def __init__(self, channels: int, width: int, style: int):
        super().__init__()
        widths = [width, 2 * width, 4 * width, 4 * width, 4 * width]
        layers: list[nn.Module] = [ReflectedConv(channels, width, 7), nn.ReLU(inplace=True)]
        for incoming, outgoing in pairwise(widths):
            layers += [ReflectedConv(incoming, outgoing, 4, stride=2), nn.ReLU(inplace=True)]
        self.down = nn.Sequential(*layers)
        self.head = nn.Conv2d(widths[-1], style, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        style: Tensor = self.head(self.down(images).mean(dim=(2, 3), keepdim=True))
        return style.flatten(start_dim=1)


class _Decoder(nn.Module):
    """See `AutoEncoder`. It is called with shifts and scales and keeps none, so calls may share a graph."""

    def __init__(self, channels: int, width: int, blocks: int):
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(4 * width) for _ in range(blocks))
        self.up1 = _smoothing(4 * width)
        self.up2 = _smoothing(2 * width)
        self.head = nn.Sequential(ReflectedConv(width, channels, 7), nn.Tanh())

    def forward(self, features: Tensor, affine: Tensor) -> Tensor:
        for block, part in zip(self.blocks, affine.chunk(len(self.blocks), dim=1), strict=True):
            features = block(features, part)
        features = self.up2(doubled(self.up1(doubled(features))))
        images: Tensor = self.head(features)
        return images


class MultiScaleDiscriminator(nn.Module):
    """Scores how real patches are, at several scales, each with weights of its own.

    A scale has `layers` 4x4 convolutions of stride 2 that double the channels, with leaky ReLU of slope 0.2
    and without norm, then a 1x1 convolution. The first looks at the images, each of the others at what the
    one before looked at, averaged over 3x3 px with stride 2; pixels beyond the border do not count.

    Parameters for one channel: 33,441 (`munit_small`) and 8,265,027 (`munit`).

    Args:
        design: Sizes.
        channels: Of the images.
    """

    def __init__(self, design: Design, *, channels: int = 1):
        super().__init__()
        self.scales = nn.ModuleList(_scale(channels, design) for _ in range(design.scales))
        self._smallest_px = int(2 ** (design.layers + design.scales - 1))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Returns a map of scores for each scale, `(N, 1, h, w)`, the finest first.

        h = floor(H / 2^layers) at the first scale.

        Args:
            images: `(N, channels, H, W)`; H and W are at least 2^(layers + scales - 1).

        Raises:
            TrainingError: They are smaller.
        """
        check_sides(images, smallest_px=self._smallest_px)
        scores: list[Tensor] = []
        for scale in self.scales:
            if scores:
                images = F.avg_pool2d(images, 3, stride=2, padding=1, count_include_pad=False)
            scores.append(scale(images))
        return tuple(scores)


def _smoothing(channels: int) -> nn.Sequential:
    convolution = ReflectedConv(channels, channels // 2, 5)
    return nn.Sequential(convolution, nn.GroupNorm(1, channels // 2), nn.ReLU(inplace=True))


def _scale(channels: int, design: Design) -> nn.Sequential:
    layers: list[nn.Module] = []
    outgoing = design.width
    for _ in range(design.layers):
        layers += [ReflectedConv(channels, outgoing, 4, stride=2), nn.LeakyReLU(0.2, inplace=True)]
        channels, outgoing = outgoing, 2 * outgoing
    return nn.Sequential(*layers, nn.Conv2d(channels, 1, kernel_size=1))
