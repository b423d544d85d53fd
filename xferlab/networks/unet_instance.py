"""A U-Net with instance normalisation in place of batch normalisation (Ulyanov et al. 2016).

Its parts have the names of those of `unet`, so that freezing, translators, heads and deep features know them.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from xferlab.networks.names import LayerNames
from xferlab.networks.unet import FIRST_CONVOLUTION, UNet, normalised_level

# Instance normalisation takes a constant behind the first convolution away: its offset changes nothing there.
NAMES = LayerNames(first=FIRST_CONVOLUTION, offset="encoder1.enc1norm1.bias", head="conv.", output="conv.")


class UNetInstance(UNet):
    """U-Net of which a level normalises each channel of each image by the image's own mean and deviation.

    It has the parameters of `UNet`, and no running statistics: training and evaluation are the same, and an
    image's result does not depend on its batch. A gain and an offset of grey levels change nothing but near
    the border, where zeros are padded. Sides are at least 32 px: one pixel has no deviation.
    """

    @staticmethod
    def level(name: str, in_channels: int, out_channels: int) -> nn.Sequential:
        """Makes a level of `UNet` with instance normalisation."""
        return normalised_level(name, in_channels, out_channels, norm=partial(nn.InstanceNorm2d, affine=True))
