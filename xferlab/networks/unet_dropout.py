"""A U-Net with dropout in place of batch normalisation (arias-garzon2021, B.3 of the method's description).

Its parts have the names of those of `unet`, so that freezing, translators, heads and deep features know them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import nn

from xferlab.networks.dropout import Dropout
from xferlab.networks.names import LayerNames
from xferlab.networks.unet import FIRST_CONVOLUTION, UNet

NAMES = LayerNames(first=FIRST_CONVOLUTION, offset="encoder1.enc1conv1.bias", head="conv.", output="conv.")

RATES: Mapping[str, float] = {
    "enc1": 0.1, "enc2": 0.1, "enc3": 0.2, "enc4": 0.2, "bottleneck": 0.3,
    "dec4": 0.2, "dec3": 0.2, "dec2": 0.1, "dec1": 0.1,
}  # fmt: skip
"""Probability of dropout in each level, in the order of the forward pass."""


class UNetDropout(UNet):
    """U-Net of which a level is: 3x3 convolution with bias, ReLU, dropout, 3x3 convolution with bias, ReLU.

    Widths, poolings, transposed convolutions and the 1x1 head are those of `UNet`. Parameters for one channel
    in and one out: 1,940,817 with f = 16, 31,030,593 with f = 64, 95,021,361 with f = 112. `initialise` draws
    its weights as the paper does.
    """

    @staticmethod
    def level(name: str, in_channels: int, out_channels: int) -> nn.Sequential:
        """Makes a level without normalisation."""
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts[f"{name}conv1"] = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        parts[f"{name}relu1"] = nn.ReLU(inplace=True)
        parts[f"{name}dropout"] = Dropout(RATES[name])
        parts[f"{name}conv2"] = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1)
        parts[f"{name}relu2"] = nn.ReLU(inplace=True)
        return nn.Sequential(parts)
