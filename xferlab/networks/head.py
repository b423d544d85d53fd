"""A head that a task gives: from the features of a trunk to one vector of outputs for each image."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from torch import Tensor, nn

from xferlab.networks.dropout import Dropout
from xferlab.networks.width import scaled

HEAD = "head"
"""Name of the part; its weights are the keys that begin with this and a dot."""


@dataclass(frozen=True)
class Head:
    """Global average pooling, then fully connected layers with ReLU between them.

    It stands in place of a network's own head, under a name of its own, so that published weights of another
    head cannot be mistaken for it.

    Attributes:
        widths: Outputs of the hidden layers; empty for a single layer.
        dropout: Probability of dropout before each fully connected layer, from the first one on; layers
            beyond the end of the list have none.
    """

    widths: tuple[int, ...] = ()
    dropout: tuple[float, ...] = ()

    def scaled(self, width: float) -> Head:
        """Returns the head with hidden layers of other widths; see `width.scaled`."""
        return replace(self, widths=tuple(scaled(outputs, width) for outputs in self.widths))


class GlobalPool(nn.Module):
    """Averages each channel over the image."""

    def forward(self, features: Tensor) -> Tensor:
        """Returns means `(N, C)` of features `(N, C, H, W)`."""
        # Unlike that of an adaptive pooling, the gradient of a mean is deterministic on CUDA.
        return features.mean(dim=(2, 3))


def layers(head: Head, *, in_features: int, out_features: int) -> nn.Sequential:
    """Returns the layers of a head, with PyTorch's weights."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(pool=GlobalPool())
    incoming = in_features
    for number, width in enumerate((*head.widths, out_features), start=1):
        if number <= len(head.dropout):
            parts[f"dropout{number}"] = Dropout(head.dropout[number - 1])
        parts[f"dense{number}"] = nn.Linear(incoming, width)
        if number <= len(head.widths):
            parts[f"relu{number}"] = nn.ReLU(inplace=True)
        incoming = width
    return nn.Sequential(parts)
