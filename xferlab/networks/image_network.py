"""What networks of whole images share."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from xferlab.networks.standardise import Standardise


class ImageNetwork(nn.Module):
    """A trunk that gives `features` of images, and a head that tells logits from them by `classify`.

    Attributes:
        standardise: What images go through first; None leaves them as they are.
    """

    standardise: Standardise | None
    features: Callable[[Tensor], Tensor]
    classify: Callable[[Tensor], Tensor]

    def __init__(self, standardise: Standardise | None):
        """Takes what images go through first."""
        super().__init__()
        self.standardise = standardise

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits `(N, out_channels)` of images `(N, in_channels, H, W)`; no softmax is applied."""
        return self.classify(self.features(images if self.standardise is None else self.standardise(images)))
