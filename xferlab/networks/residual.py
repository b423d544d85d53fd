"""Parts of networks that turn images into images: reflection padding, residual blocks, instance norm.

PyTorch has no deterministic gradient of its own reflection padding on CUDA; the one here is slices, joined.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xferlab.errors import TrainingError


class ReflectedConv(nn.Conv2d):
    """A convolution with bias and reflection padding: at stride 1 and an odd kernel it keeps the size.

    With a 4x4 kernel and stride 2 it halves sides, and rounds down.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of its kernels in pixels.
        stride: Pixels between two outputs.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1):
        super().__init__(in_channels, out_channels, kernel_size, stride=stride)
        self._reflected_px = (kernel_size - 1) // 2

    def forward(self, features: Tensor) -> Tensor:
        """Returns `(N, out_channels, H', W')` of features `(N, in_channels, H, W)`."""
        return super().forward(reflected(features, self._reflected_px))


class ResidualBlock(nn.Module):
    """Adds to its input what two 3x3 convolutions give, each with instance norm, and ReLU between them.

    Args:
        channels: Of the input and the output.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = ReflectedConv(channels, channels, 3)
        self.conv2 = ReflectedConv(channels, channels, 3)

    def forward(self, features: Tensor, affine: Tensor | None = None) -> Tensor:
        """Returns features of the shape of the input.

        Args:
            features: `(N, C, H, W)`; each side has at least 2 px.
            affine: `(N, 4C)`, shifts and scales of the first norm, then those of the second, as `normalised`
                takes them; `(1, 4C)` holds for all. None for none.
        """
        first, second = (None, None) if affine is None else affine.chunk(2, dim=1)
        inner = normalised(self.conv1(features), first).relu()
        return features + normalised(self.conv2(inner), second)


def activated(convolution: nn.Conv2d | nn.ConvTranspose2d, *, slope: float = 0.0) -> list[nn.Module]:
    """Returns a convolution, instance norm, and a ReLU that gives values below 0 this slope."""
    relu = nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)
    return [convolution, nn.InstanceNorm2d(convolution.out_channels), relu]


def normalised(features: Tensor, affine: Tensor | None = None) -> Tensor:
    """Returns features `(N, C, H, W)` of mean 0 and variance 1 in each channel of each image, or restyled.

    With `affine` it is adaptive instance norm, `scale * normalised + shift` (Huang and Belongie 2017, eq. 8).
    The variance is that of the population, plus 1e-5.

    Args:
        features: `(N, C, H, W)` with at least 2 px.
        affine: `(N, 2C)`: the shift of each channel, then the scale of each; None for 0 and 1.
    """
    result = F.instance_norm(features)
    if affine is None:
        return result
    shift, scale = affine[:, :, None, None].chunk(2, dim=1)
    return result * scale + shift


def reflected(values: Tensor, padding_px: int) -> Tensor:
    """Returns values `(N, C, H, W)` mirrored at their borders, `(N, C, H + 2p, W + 2p)`.

    The border itself is not repeated, as in `F.pad(mode="reflect")`. H and W are above p.
    """
    for dim in (2, 3):
        last = values.shape[dim] - 1
        before = values.narrow(dim, 1, padding_px).flip(dim)
        after = values.narrow(dim, last - padding_px, padding_px).flip(dim)
        values = torch.cat([before, values, after], dim=dim)
    return values


def doubled(values: Tensor) -> Tensor:
    """Returns values `(N, C, H, W)` with each pixel repeated, `(N, C, 2H, 2W)`: nearest upsampling."""
    count, channels, height, width = values.shape
    repeated = values[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
    return repeated.reshape(count, channels, 2 * height, 2 * width)


def check_sides(images: Tensor, *, smallest_px: int, multiple_px: int = 1) -> None:
    """Checks that a network takes images of this size.

    Args:
        images: `(N, C, H, W)`.
        smallest_px: What H and W are at least.
        multiple_px: What H and W are multiples of.

    Raises:
        TrainingError: It does not.
    """
    height, width = images.shape[-2:]
    if min(height, width) < smallest_px or height % multiple_px or width % multiple_px:
        multiples = f"multiples of {multiple_px} and " if multiple_px > 1 else ""
        raise TrainingError(
            f"images have {width}x{height} px, and the network takes sides that are {multiples}at least "
            f"{smallest_px} px; set model.image_size to such a number"
        )
