"""U-Nets: four levels down, a bottleneck, four levels up; that of the donor, and two with other levels.

The names of the parts are those of the published weights (Buda et al. 2019), so that their state dict loads
as it is. They are the same in all three, so that freezing, translators, heads and deep features know them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from xferlab.networks.batch_norm import BatchNorm2d
from xferlab.networks.dropout import Dropout
from xferlab.networks.names import LayerNames
from xferlab.networks.translator import Translatable, Translator
from xferlab.networks.upsampling import TransposedConv2d

FIRST_CONVOLUTION = "encoder1.enc1conv1.weight"
"""Its second dimension is the number of channels of the images."""

NAMES: Mapping[str, LayerNames] = {
    name: LayerNames(first=FIRST_CONVOLUTION, offset=f"encoder1.{offset}", head="conv.", output="conv.")
    for name, offset in {
        "unet": "enc1norm1.running_mean",
        "unet_dropout": "enc1conv1.bias",
        # Instance normalisation takes a constant behind the first convolution away: its offset says nothing.
        "unet_instance": "enc1norm1.bias",
    }.items()
}
"""Where the first and last layers of each network are."""

RATES: Mapping[str, float] = {
    "enc1": 0.1, "enc2": 0.1, "enc3": 0.2, "enc4": 0.2, "bottleneck": 0.3,
    "dec4": 0.2, "dec3": 0.2, "dec2": 0.1, "dec1": 0.1,
}  # fmt: skip
"""Probability of dropout in each level of `UNetDropout`, in the order of the forward pass."""


def _normalised_level(
    name: str, in_channels: int, out_channels: int, *, norm: Callable[[int], nn.Module] = BatchNorm2d
) -> nn.Sequential:
    """Returns twice a convolution without bias, normalisation and ReLU."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for number, width in ((1, in_channels), (2, out_channels)):
        parts[f"{name}conv{number}"] = nn.Conv2d(width, out_channels, kernel_size=3, padding=1, bias=False)
        parts[f"{name}norm{number}"] = norm(out_channels)
        parts[f"{name}relu{number}"] = nn.ReLU(inplace=True)
    return nn.Sequential(parts)


class UNet(Translatable):
    """U-Net with batch normalisation (Buda et al. 2019).

    A level is twice (3x3 convolution without bias, batch normalisation, ReLU). Levels have widths f, 2f, 4f,
    8f and 16f (the bottleneck), f being `init_features`. 2x2 max pooling goes down; a 2x2 transposed
    convolution of stride 2 goes up, and the encoder's output is appended to the upsampled one. 7,763,041
    parameters for 3 channels and f = 32.

    Args:
        in_channels: Channels of the images.
        out_channels: Channels of the output.
        init_features: Width f of the first level.
        translator: New layers that the last features go through, in place of the 1x1 head; None for none.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 1,
        init_features: int = 32,
        translator: Translator | None = None,
    ):
        super().__init__()
        f, level = init_features, self.level
        # The order of these lines is the order in which `initialise` draws.
        self.encoder1 = level("enc1", in_channels, f)
        self.encoder2 = level("enc2", f, 2 * f)
        self.encoder3 = level("enc3", 2 * f, 4 * f)
        self.encoder4 = level("enc4", 4 * f, 8 * f)
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2)
        self.bottleneck = level("bottleneck", 8 * f, 16 * f)
        self.upconv4 = _upsampling(16 * f, 8 * f)
        self.decoder4 = level("dec4", 16 * f, 8 * f)
        self.upconv3 = _upsampling(8 * f, 4 * f)
        self.decoder3 = level("dec3", 8 * f, 4 * f)
        self.upconv2 = _upsampling(4 * f, 2 * f)
        self.decoder2 = level("dec2", 4 * f, 2 * f)
        self.upconv1 = _upsampling(2 * f, f)
        self.decoder1 = level("dec1", 2 * f, f)
        self.add_head(translator, in_channels=f, out_channels=out_channels)

    @staticmethod
    def level(name: str, in_channels: int, out_channels: int) -> nn.Sequential:
        """Makes a level of a name, from so many channels to so many."""
        return _normalised_level(name, in_channels, out_channels)

    def features(self, images: Tensor) -> Tensor:
        """Returns what the last decoder level gives, `(N, init_features, H, W)`, 0 or more."""
        level1 = self.encoder1(images)
        level2 = self.encoder2(self.pool(level1))
        level3 = self.encoder3(self.pool(level2))
        level4 = self.encoder4(self.pool(level3))
        up = self.bottleneck(self.pool(level4))
        up = self.decoder4(torch.cat([self.upconv4(up), level4], dim=1))
        up = self.decoder3(torch.cat([self.upconv3(up), level3], dim=1))
        up = self.decoder2(torch.cat([self.upconv2(up), level2], dim=1))
        last: Tensor = self.decoder1(torch.cat([self.upconv1(up), level1], dim=1))
        return last


class UNetDropout(UNet):
    """U-Net with dropout in place of batch normalisation (arias-garzon2021, B.3 of the method's description).

    A level is: 3x3 convolution with bias, ReLU, dropout, 3x3 convolution with bias, ReLU.

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


class UNetInstance(UNet):
    """U-Net with instance normalisation in place of batch normalisation (Ulyanov et al. 2016).

    A level normalises each channel of each image by the image's own mean and deviation. The parameters are
    those of `UNet`, without running statistics: training and evaluation are the same, and an image's result
    does not depend on its batch. A gain and an offset of grey levels change nothing but near the border,
    where zeros are padded. Sides are at least 32 px: one pixel has no deviation.
    """

    @staticmethod
    def level(name: str, in_channels: int, out_channels: int) -> nn.Sequential:
        """Makes a level of `UNet` with instance normalisation."""
        return _normalised_level(
            name, in_channels, out_channels, norm=partial(nn.InstanceNorm2d, affine=True)
        )


def _upsampling(in_channels: int, out_channels: int) -> TransposedConv2d:
    return TransposedConv2d(in_channels, out_channels, kernel_size=2, stride=2)
