"""What a network sees of images: all of them, or what lies inside or outside of masks; as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from xferlab.networks.normalisation import Normalisation
from xferlab.networks.published import published
from xferlab.tasks.classification.config import Identity
from xferlab.training.augment import Augmentation, move
from xferlab.training.batches import Rows
from xferlab.training.degradation import degrade
from xferlab.training.examples import ImageExamples, Pixels
from xferlab.training.intensity import GREY_LEVELS, check_channels, normalise
from xferlab.training.learner import AugmentationSeed
from xferlab.training.upload import uploaded

_WHITE = GREY_LEVELS - 1


@dataclass(frozen=True)
class Region:
    """From stored images to what the network takes.

    What the masks do not leave is set to 0, and grey levels are normalised after that, zeros included
    (arias-garzon2021, classification). In training the zeros come first, so that no blur and no rotation
    mixes what is hidden into what is seen; then images are degraded, turned with their masks, and masked
    again.

    Attributes:
        in_channels: Channels of the network; a grey image is repeated over them.
        keep: `inside` or `outside` of masks; `whole` takes no notice of them; None where there are none.
        structures: The structures whose masks count; None for all that are taken.
        intensity: A key of `INTENSITIES`.
        normalisation: What published weights expect; None leaves 0..1.
        rotation: (degrees, probability), or None for none.
        augmentation: What varies beside the rotation, or None.
    """

    in_channels: int
    keep: str | None = None
    structures: tuple[str, ...] | None = None
    intensity: str = "minmax"
    normalisation: Normalisation | None = None
    rotation: tuple[float, float] | None = None
    augmentation: Augmentation | None = None

    @staticmethod
    def of(identity: Identity) -> Region:
        """Returns that of an identity."""
        model, training = identity.model, identity.training
        augmentation = training.augmentation
        normalisation = None
        if model.standardise == "imagenet":
            expected = published(f"imagenet/{model.name}").normalisation
            normalisation = expected.grey() if expected and model.in_channels == 1 else expected
        return Region(
            in_channels=model.in_channels,
            keep=identity.masks["keep"] if identity.masks else None,
            structures=tuple((identity.masks or {}).get("region", ())) or None,
            intensity=model.intensity,
            normalisation=normalisation,
            rotation=training.turns,
            augmentation=Augmentation(**dict(augmentation)) if augmentation else None,
        )

    def inputs(self, raw: torch.Tensor, left: torch.Tensor | None) -> torch.Tensor:
        """Returns what the network sees of images or parts of them, (N, C, H, W) float32.

        Args:
            raw: (N, C, H, W), grey levels.
            left: (N, 1, H, W), what is left of each, 0 or 1; None for all of it.

        Raises:
            TrainingError: The images are not grey and have another number of channels than the network.
        """
        check_channels(raw.shape[1], self.in_channels)
        images = raw.float()
        return self._framed(normalise(images if left is None else images * left, self.intensity))

    def augmented(
        self,
        raw: torch.Tensor,
        left: torch.Tensor | None,
        keys: npt.NDArray[np.uint64],
        draw: AugmentationSeed,
    ) -> torch.Tensor:
        """Returns what `inputs` does, augmented.

        Args:
            raw: (N, C, H, W) uint8.
            left: As of `inputs`.
            keys: 64 bits of each, (N,).
            draw: What augmentation is drawn from.

        Raises:
            TrainingError: As of `inputs`.
        """
        options = self.augmentation or Augmentation()
        seen = raw if left is None else raw * left.to(raw.dtype)
        images = degrade(seen, keys, options, draw).float()
        targets = images[:, :1] if left is None else left
        images, targets = move(images, targets, keys, draw, rotation=self.rotation, options=options)
        return self.inputs(images, None if left is None else targets)

    def _framed(self, images: torch.Tensor) -> torch.Tensor:
        if self.normalisation is not None:
            images = self.normalisation.apply(images * _WHITE)
        if images.shape[1] != self.in_channels:
            images = images.expand(-1, self.in_channels, -1, -1)
        return images.contiguous(memory_format=torch.channels_last)

    @property
    def is_whole(self) -> bool:
        """Whether the network sees all of each image."""
        return self.keep in (None, "whole")

    def left(self, examples: ImageExamples, rows: Rows) -> torch.Tensor | None:
        """Returns what is left of each image, (N, 1, H, W), 0 or 1; None for all of it."""
        if self.is_whole:
            return None
        masks = examples.take_masks(rows)
        places = uploaded(np.array(self.places(examples)), masks.device)
        inside = (masks[:, places] > 0).any(dim=1, keepdim=True)
        return (inside if self.keep == "inside" else ~inside).float()

    def masks(self, examples: ImageExamples) -> npt.NDArray[np.bool_] | None:
        """Returns what is left of all cases, (N, h, w), at the size of `all_masks`; None for all of it."""
        if self.is_whole:
            return None
        inside = (examples.all_masks()[:, self.places(examples)] > 0).any(axis=1)
        return np.asarray(inside if self.keep == "inside" else ~inside)

    def places(self, examples: ImageExamples) -> list[int]:
        """Returns which of the masks that a stage takes count."""
        assert examples.masks is not None, "asked for masks of a stage that takes none"
        names = examples.masks.structures
        return [names.index(name) for name in self.structures or names]

    def mask(self, examples: ImageExamples, row: int) -> npt.NDArray[np.bool_] | None:
        """Returns where the structures of a case are, (H, W); None where the stage takes no masks."""
        if self.keep is None:
            return None
        planes = examples.masks_of(row)[self.places(examples)]
        return cast("npt.NDArray[np.bool_]", (planes > 0).any(axis=0))

    def seen(self, examples: ImageExamples, row: int) -> Pixels:
        """Returns what the network sees of a case, as grey levels (H, W)."""
        image: Pixels = examples.case(row)[0][0]
        inside = self.mask(examples, row)
        if inside is None or self.is_whole:
            return image
        return image * (inside if self.keep == "inside" else ~inside)
