"""The learner of masked."""

from __future__ import annotations

from typing import Any

from xferlab.tasks.images.learner import Batch
from xferlab.tasks.labelled.config import Identity
from xferlab.tasks.labelled.learner import LabelledLearner

from xferlab.training.batches import Rows
from xferlab.training.examples import ImageExamples
from xferlab.training.learner import AugmentationSeed


class MaskedLearner(LabelledLearner):
    """Sees nothing of an image but what lies inside of its masks, or outside of them."""

    def __init__(self, identity: Identity, *given: Any, **options: Any):
        super().__init__(identity, *given, **options)
        self._inside = (identity.masks or {})["keep"] == "inside"

    def load(self, examples: ImageExamples, rows: Rows, draw: AugmentationSeed | None) -> Batch:
        images, labels = super().load(examples, rows, draw)
        inside = (examples.take_masks(rows) > 0).any(dim=1, keepdim=True)
        return Batch(images * (inside if self._inside else ~inside), labels)
