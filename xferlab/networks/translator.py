"""A domain translator: new layers at the end of a donor (vidal2021, ablation a)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from xferlab.networks.batch_norm import BatchNorm2d

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


class Translatable(nn.Module):
    """Gives `features` of images at their size, and logits of these by its head or by a translator.

    Attributes:
        conv: The head.
        translator: New layers that the features go through in place of the head; None for none.
    """

    features: Callable[[Tensor], Tensor]

    def add_head(
        self, translator: Translator | None, *, in_channels: int, out_channels: int, kernel_size: int = 1
    ) -> None:
        """Adds the head and, if one is given, the translator: the last parts."""
        padding = kernel_size // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=kernel_size, padding=padding)
        self.translator = (
            _layers(translator, in_channels=in_channels, out_channels=out_channels) if translator else None
        )

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits `(N, out_channels, H, W)` of images `(N, in_channels, H, W)`, before any activation.

        H and W are multiples of 16 in U-Nets, of 32 in others.
        """
        head = self.conv if self.translator is None else self.translator
        logits: Tensor = head(self.features(images))
        return logits


def translator_in(state: Mapping[str, Tensor]) -> Translator | None:
    """Returns the shape of the translator whose weights a state dict holds; None if it holds none.

    The shape is read from names and from the first convolution alone; loading checks the rest.
    """
    first = state.get(f"{TRANSLATOR}.conv1.weight")
    if first is None or first.ndim != 4 or first.shape[-1] % 2 == 0:
        return None
    depth = sum(key.startswith(f"{TRANSLATOR}.conv") and key.endswith(".weight") for key in state)
    return Translator(depth=depth, width=first.shape[0], kernel=first.shape[-1])


def _layers(options: Translator, *, in_channels: int, out_channels: int) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    incoming, padding = in_channels, options.kernel // 2
    for number in range(1, options.depth + 1):
        parts[f"conv{number}"] = nn.Conv2d(
            incoming, options.width, kernel_size=options.kernel, padding=padding, bias=False
        )
        parts[f"norm{number}"] = BatchNorm2d(options.width)
        parts[f"relu{number}"] = nn.ReLU(inplace=True)
        incoming = options.width
    parts["head"] = nn.Conv2d(incoming, out_channels, kernel_size=1)
    return nn.Sequential(parts)
