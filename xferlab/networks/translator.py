"""A domain translator: new layers at the end of a donor (vidal2021, ablation a)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

TRANSLATOR = "translator"
"""Name of the new part; its weights are the keys that begin with this and a dot."""


@dataclass(frozen=True)
class Translator:
    """The new layers: `depth` times (convolution without bias, batch norm, ReLU), then a 1x1 convolution.

    They read the last decoder level, not the head's output: one channel of another structure's probability
    carries too little. The head stays where it was, unused and untouched, so that the state dict is the
    donor's, name for name, and `translator.*` beside it. `initialise` gives all but the translator the
    weights of the plain network of the same seed.

    Attributes:
        depth: Number of such layers, at least 1.
        width: Channels of each, at least 1.
        kernel: Side of their kernels in pixels, odd; padding keeps the size.
    """

    depth: int
    width: int
    kernel: int = 3


def translator_in(state: Mapping[str, Tensor]) -> Translator | None:
    """Returns the shape of the translator whose weights a state dict holds; None if it holds none.

    The shape is read from names and from the first convolution alone; loading checks the rest.
    """
    first = state.get(f"{TRANSLATOR}.conv1.weight")
    if first is None or first.ndim != 4 or first.shape[-1] % 2 == 0:
        return None
    depth = sum(key.startswith(f"{TRANSLATOR}.conv") and key.endswith(".weight") for key in state)
    return Translator(depth=depth, width=first.shape[0], kernel=first.shape[-1])


def layers(options: Translator, *, in_channels: int, out_channels: int) -> nn.Sequential:
    """Returns the layers of a translator, with PyTorch's weights."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    incoming, padding = in_channels, options.kernel // 2
    for number in range(1, options.depth + 1):
        parts[f"conv{number}"] = nn.Conv2d(
            incoming, options.width, kernel_size=options.kernel, padding=padding, bias=False
        )
        parts[f"norm{number}"] = nn.BatchNorm2d(options.width)
        parts[f"relu{number}"] = nn.ReLU(inplace=True)
        incoming = options.width
    parts["head"] = nn.Conv2d(incoming, out_channels, kernel_size=1)
    return nn.Sequential(parts)
