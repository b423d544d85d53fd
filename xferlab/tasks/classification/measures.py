"""What is measured of predictions: of each image, and of all validation images at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xferlab.metrics.classes import SENSITIVE, THRESHOLD, YOUDEN, values_of_classes
from xferlab.metrics.curves import sensitive_threshold, youden_threshold

Floats = npt.NDArray[np.floating[Any]]
CHOSEN = (YOUDEN, SENSITIVE)
"""Thresholds that validation cases give, in the order of `Classifier.thresholds`."""
NO_THRESHOLD = 2.0
"""Stands for none in weights, which hold no NaN: no probability reaches it."""


@dataclass(frozen=True)
class Measures:
    """Measures of classes that exclude each other or not."""

    is_exclusive: bool

    def truth(self, labels: npt.NDArray[np.int64], num_classes: int) -> npt.NDArray[np.float32]:
        """Returns (N, K), 1 for each class that an image is of, of labels (N,) as `Labelling` gives them."""
        numbers = np.arange(num_classes)
        of_class = labels[:, None] == numbers if self.is_exclusive else (labels[:, None] >> numbers) & 1
        return of_class.astype(np.float32)

    def called(self, probability: Floats, threshold: float = THRESHOLD) -> npt.NDArray[np.bool_]:
        """Returns which classes an image (K,), or each of several (N, K), is called.

        The most probable one, of equal ones the first; where classes are independent, all above a threshold.
        """
        if not self.is_exclusive:
            return probability > threshold
        numbers = np.arange(probability.shape[-1])
        return np.asarray(probability.argmax(axis=-1)[..., None] == numbers)

    def counts(self, probability: Floats, truth: Floats) -> npt.NDArray[np.int64]:
        """Returns how many images are of each class and called so, called so, and of it, (3, K)."""
        called, is_true = self.called(probability), truth == 1
        return np.stack([(called & is_true).sum(axis=0), called.sum(axis=0), is_true.sum(axis=0)])

    def of_all(self, counts: npt.NDArray[np.int64], number: int) -> dict[str, float]:
        """Returns `accuracy`, of images or, independent, of images and classes, and `mean_f1` over classes.

        A class that no image is of, and none is called, has no F1 and is left out of the mean; NaN is never
        the mean of exclusive classes, of which one is called.

        Args:
            counts: Of all images together, as `counts` gives them.
            number: Of images.
        """
        both, either = counts[0], counts[1] + counts[2]
        told = number if self.is_exclusive else number * len(both)
        right = both.sum() if self.is_exclusive else told - (either - 2 * both).sum()
        mean_f1 = (2 * both[either > 0] / either[either > 0]).mean()
        return {"accuracy": float(right / told), "mean_f1": float(mean_f1)}

    def of_case(
        self,
        probability: Floats,
        truth: Floats,
        classes: Sequence[str],
        thresholds: Floats,
        *,
        voted: int | None = None,
    ) -> Mapping[str, float]:
        """Returns the values of one image by name.

        Args:
            probability: (K,).
            truth: (K,).
            classes: Names of the classes.
            thresholds: (2, K), those of `CHOSEN`.
            voted: The class that it is called by votes; None for the most probable one.
        """
        chosen = np.where(thresholds == NO_THRESHOLD, np.nan, thresholds)
        return values_of_classes(
            classes,
            truth == 1,
            probability,
            exclusive=self.is_exclusive,
            thresholds=dict(zip(CHOSEN, chosen.tolist(), strict=True)),
            voted=voted,
        )


def thresholds_of(probability: Floats, truth: Floats, *, sensitivity: float) -> npt.NDArray[np.float32]:
    """Returns thresholds of each class against the rest, (2, K): those of `CHOSEN`, each a probability.

    An image is called so from there on; see `metrics.curves`. `NO_THRESHOLD` where there is none.

    Args:
        probability: (N, K), of the validation images.
        truth: (N, K), 1 for each class that an image is of.
        sensitivity: In (0, 1).
    """
    columns = zip(truth.T.astype(np.float64), probability.T.astype(np.float64), strict=True)
    chosen = np.array([(youden_threshold(*c), sensitive_threshold(*c, sensitivity)) for c in columns])
    return np.where(np.isnan(chosen), NO_THRESHOLD, chosen).astype(np.float32).T
