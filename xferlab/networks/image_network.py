"""What networks of whole images share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from xferlab.networks.head import Head, layers
from xferlab.networks.standardise import Standardise

Level = tuple[nn.Module, tuple[nn.Module, ...]]
"""The module that gives a level's features, and those whose convolutions lead from the one before to it."""


class ImageNetwork(nn.Module):
    """A trunk that gives `features` of images, and a head that tells logits from them by `classify`.

    Attributes:
        standardise: What images go through first; None leaves them as they are.
        levels: Returns one for each of the five resolutions that the trunk goes through, in order.
    """

    standardise: Standardise | None
    features: Callable[[Tensor], Tensor]
    own_head: Callable[[Tensor], Tensor]
    levels: Callable[[], Sequence[Level]]

    def __init__(self, standardise: Standardise | None):
        """Takes what images go through first."""
        super().__init__()
        self.standardise = standardise

    def takes(self, head: Head | None, *, in_features: int, out_features: int) -> bool:
        """Adds a head, if one is given, in place of the own one; returns whether one was."""
        if head is not None:
            self.head = layers(head, in_features=in_features, out_features=out_features)
        self._is_own_head = head is None
        return head is not None

    def classify(self, features: Tensor) -> Tensor:
        """Returns the logits of what `features` gives, by the given head or by the own one."""
        logits: Tensor = self.own_head(features) if self._is_own_head else self.head(features)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits `(N, out_channels)` of images `(N, in_channels, H, W)`; no softmax is applied."""
        return self.classify(self.features(images if self.standardise is None else self.standardise(images)))
