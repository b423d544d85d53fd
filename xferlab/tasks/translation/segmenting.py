"""The segmenter of a translation: as its own stage made it, on images in [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from xferlab.metrics.measuring import THRESHOLD
from xferlab.networks.build import build
from xferlab.networks.layout import layout
from xferlab.tasks.translation.batches import Targets
from xferlab.tasks.translation.sections import Segmenter
from xferlab.training.intensity import normalise
from xferlab.training.pixel_losses import loss_of, probabilities
from xferlab.training.reference import add_reference, reference_in
from xferlab.training.structures import Masks, Probabilities, masks_of


@dataclass(frozen=True)
class Segmenting:
    """A network that segments, with what its own stage does to images and to its outputs.

    Attributes:
        section: What it takes from its own stage.
        network: Its network.
    """

    section: Segmenter
    network: nn.Module

    @staticmethod
    def of(section: Segmenter, side: int) -> Segmenting:
        """Returns a segmenter of images of a side in pixels, whose weights are arbitrary."""
        network = build(
            section.name,
            in_channels=section.in_channels,
            out_channels=section.out_channels,
            init_features=section.init_features,
            growth=section.growth,
            width=section.width,
            package=section.package,
        )
        add_reference(network, section.intensity, side)
        return Segmenting(section, network)

    @property
    def structures(self) -> int:
        """How many structures it tells."""
        return self.section.structures

    def logits(self, images: Tensor) -> Tensor:
        """Returns float32 logits of images in [-1, 1], `(N, 1, H, W)`."""
        grey, reference = (images + 1.0) * 127.5, reference_in(self.network)
        seen = reference(grey) if reference else normalise(grey, self.section.intensity)
        shown = seen.expand(-1, self.section.in_channels, -1, -1)
        logits: Tensor = self.network(shown.contiguous(memory_format=layout(self.network, shown.device)))
        return logits.float()

    def loss(self, logits: Tensor, targets: Targets) -> Tensor:
        """Returns the loss of its own stage."""
        target = targets.target
        if self.section.first_counts:
            # Of whole numbers: CUDA has no deterministic sum of others.
            target = target * (target.bool().cumsum(dim=1) == 1)
        return loss_of(
            self.section.loss,
            logits,
            target,
            targets.valid,
            self.section.smoothing,
            is_exclusive=self.section.is_exclusive,
            class_weights=self.section.class_weights,
        )

    def probabilities(self, logits: Tensor) -> Tensor:
        """Returns the probability of each structure, `(N, S, H, W)`."""
        return probabilities(logits, is_exclusive=self.section.is_exclusive)

    def masks(self, probabilities: Probabilities, threshold: float = THRESHOLD) -> Masks:
        """Returns where each structure of an image is, (S, H, W), as its own stage tells it."""
        return masks_of(probabilities, threshold, is_exclusive=self.section.is_exclusive)
