"""A U-Net with instance normalisation in place of batch normalisation (Ulyanov et al. 2016).

Its parts have the names of those of `unet`, so that freezing, translators, heads and deep features know them.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from xferlab.networks.names import LayerNames
from xferlab.networks.translator import Translator
from xferlab.networks.unet import FIRST_CONVOLUTION, UNet, normalised_level

# Instance normalisation takes a constant behind the first convolution away: its offset changes nothing there.
NAMES = LayerNames(first=FIRST_CONVOLUTION, offset="encoder1.enc1norm1.bias", head="conv.", output="conv.")


class UNetInstance(UNet):
    """U-Net of which a level normalises each channel of each image by the image's own mean and deviation.

    It has the parameters of `UNet`, and no running statistics: training and evaluation are the same, and an
    image's result does not depend on its batch. A gain and an offset of grey levels change nothing but near
    the border, where zeros are padded. Sides are at least 32 px: one pixel has no deviation.

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
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            init_features=init_features,
            translator=translator,
            level=partial(normalised_level, norm=partial(nn.InstanceNorm2d, affine=True)),
        )
