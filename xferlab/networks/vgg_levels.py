"""The trunk of VGG16 as five levels with the names of those of `unet`, for networks that segment."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn

from xferlab.errors import DonorError
from xferlab.networks.batch_norm import BatchNorm2d
from xferlab.networks.vgg import HIDDEN, WIDTHS
from xferlab.networks.width import scaled, width_in

CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Of each level (Simonyan and Zisserman 2015, configuration D)."""

FIRST = "encoder1.conv1.weight"
"""The first convolution's weights in the state dict of a network with these levels."""


def level(
    in_channels: int, out_channels: int, count: int, *, normalised: bool, padding: int = 1
) -> nn.Sequential:
    """Returns 3x3 convolutions, each with ReLU, and with batch normalisation before it if `normalised`.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of each convolution.
        count: Number of convolutions.
        normalised: Whether batch normalisation follows each convolution.
        padding: Of the first convolution; all others keep the size.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(1, count + 1):
        parts[f"conv{number}"] = nn.Conv2d(
            in_channels, out_channels, kernel_size=3, padding=padding if number == 1 else 1
        )
        if normalised:
            parts[f"norm{number}"] = BatchNorm2d(out_channels)
        parts[f"relu{number}"] = nn.ReLU(inplace=True)
        in_channels = out_channels
    return nn.Sequential(parts)


def trunk(in_channels: int, width: float, *, normalised: bool, padding: int = 1) -> dict[str, nn.Sequential]:
    """Returns `encoder1` to `encoder5`, without the poolings between them.

    Args:
        in_channels: Channels of the images.
        width: What all numbers of channels are multiplied by (`width.scaled`).
        normalised: As in `level`.
        padding: Of the very first convolution.
    """
    widths = [in_channels, *(scaled(channels, width) for channels in WIDTHS)]
    return {
        f"encoder{number}": level(
            widths[number - 1],
            widths[number],
            count,
            normalised=normalised,
            padding=padding if number == 1 else 1,
        )
        for number, count in enumerate(CONVOLUTIONS, start=1)
    }


def width_of(state: Mapping[str, Tensor]) -> float | None:
    """Returns a width with which a network has the channels of a state dict; None if there is none."""
    layers = {f"encoder{number}.conv1.weight": full for number, full in enumerate(WIDTHS, start=1)}
    layers["bottleneck.fc6.weight"] = HIDDEN
    return width_in([(full, len(state[key])) for key, full in layers.items() if key in state])


def under_levels(state: Mapping[str, Tensor], own: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """Returns a VGG16's weights under the names of a network with these levels, and its own for the rest.

    The rest is all that VGG16 lacks: heads, decoders, batch normalisation. Two fully connected layers become
    `fc6` and `fc7` where the network has them (Long et al. 2015, section 3.1).

    Args:
        state: VGG16's, under the names of torchvision.
        own: The network's.
        origin: Where the weights come from, for the message.

    Raises:
        DonorError: They lack a layer, or have another width.
    """
    taken = {
        f"{name}.{kind}": f"{published}.{kind}"
        for name, published in _published_names().items()
        if f"{name}.weight" in own
        for kind in ("weight", "bias")
    }
    lacking = [published for published in taken.values() if published not in state]
    if lacking:
        raise DonorError(
            f"{origin}: these weights have no {lacking[0]!r}, and the network is made of VGG16; start from "
            "the weights of a VGG16, such as imagenet/vgg16, or from random weights"
        )
    if len(state[taken[FIRST]]) != len(own[FIRST]):
        raise DonorError(
            f"{origin}: these weights are of a VGG16 with {len(state[taken[FIRST]])} filters in its first "
            f"convolution, and the network has {len(own[FIRST])}; set model.width to that of the weights (1 "
            "for published ones), or start from random weights"
        )
    return {**own, **{name: _shaped(state[key], own[name]) for name, key in taken.items()}}


def _shaped(weights: Tensor, like: Tensor) -> Tensor:
    """A fully connected layer as a convolution; anything else, and what does not fit, as it is."""
    return weights.reshape(like.shape) if weights.ndim == 2 and weights.numel() == like.numel() else weights


def _published_names() -> dict[str, str]:
    """The layers, and their names in torchvision's VGG16."""
    names, position = dict[str, str](), 0
    for number, count in enumerate(CONVOLUTIONS, start=1):
        for convolution in range(1, count + 1):
            names[f"encoder{number}.conv{convolution}"] = f"features.{position}"
            position += 2  # its ReLU
        position += 1  # a pooling
    return names | {"bottleneck.fc6": "classifier.0", "bottleneck.fc7": "classifier.3"}
