"""SegNet (Badrinarayanan, Kendall and Cipolla 2017): VGG16 and its mirror image, with pooling indices.

Its parts have the names of those of `unet`, so that freezing, translators, heads and deep features know them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xferlab.networks.names import LayerNames
from xferlab.networks.translator import Translatable, Translator
from xferlab.networks.vgg import WIDTHS
from xferlab.networks.vgg_levels import CONVOLUTIONS, FIRST, level, trunk
from xferlab.networks.width import scaled

NAMES = LayerNames(first=FIRST, offset="encoder1.norm1.running_mean", head="conv.", output="conv.")


class SegNet(Translatable):
    """SegNet as published, without dropout.

    A level of the encoder is that of VGG16 with batch normalisation, followed by 2x2 max pooling. A level of
    the decoder puts each value where the encoder's maximum was, among zeros, and mirrors the convolutions;
    its last one leads to the width of the level above. The last level has one convolution, and a 3x3
    classifier stands in place of its second. 29,443,010 parameters for one channel and two outputs.

    Args:
        in_channels: Channels of the images.
        out_channels: Channels of the output.
        width: What all numbers of channels but those of the output are multiplied by (`width.scaled`).
        translator: New layers that the last features go through, in place of the classifier; None for none.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 1,
        width: float = 1.0,
        translator: Translator | None = None,
    ):
        super().__init__()
        for name, part in trunk(in_channels, width, normalised=True).items():
            self.add_module(name, part)
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2, return_indices=True)
        widths = [scaled(channels, width) for channels in WIDTHS]
        for number in range(len(WIDTHS), 0, -1):
            self.add_module(f"decoder{number}", _mirrored(number, widths))
        self.add_head(translator, in_channels=widths[0], out_channels=out_channels, kernel_size=3)

    def features(self, images: Tensor) -> Tensor:
        """Returns what the last decoder level gives, `(N, 64, H, W)` at width 1, 0 or more."""
        features, places = images, list[Tensor]()
        for number in range(1, len(WIDTHS) + 1):
            features, indices = self.pool(self.get_submodule(f"encoder{number}")(features))
            places.append(indices)
        for number in range(len(WIDTHS), 0, -1):
            up = unpooled(features, places[number - 1])
            features = self.get_submodule(f"decoder{number}")(up)
        return features


def unpooled(values: Tensor, indices: Tensor) -> Tensor:
    """Returns values at the places of the maxima of a 2x2 max pooling, and zeros elsewhere.

    It gives what `torch.nn.functional.max_unpool2d` gives, which refuses to run with deterministic algorithms
    on CUDA. Here no two values can meet, so nothing depends on their order.

    Args:
        values: `(N, C, H, W)`.
        indices: Of the pooling, of this shape: `2W` times the row plus the column of each maximum.

    Returns:
        `(N, C, 2H, 2W)`.
    """
    count, channels, height, width = values.shape
    places = torch.arange(4 * height * width, device=values.device).reshape(height, 2, width, 2)
    is_there = indices[:, :, :, None, :, None] == places
    spread = torch.where(is_there, values[:, :, :, None, :, None], 0.0)
    return spread.reshape(count, channels, 2 * height, 2 * width)


def _mirrored(number: int, widths: list[int]) -> nn.Sequential:
    """The convolutions of an encoder's level the other way round; of the first level, all but the last."""
    own, count = widths[number - 1], CONVOLUTIONS[number - 1]
    parts = level(own, own, count - 1, normalised=True)
    if number > 1:
        last = level(own, widths[number - 2], 1, normalised=True)
        for kind in ("conv", "norm", "relu"):
            parts.add_module(f"{kind}{count}", last.get_submodule(f"{kind}1"))
    return parts
