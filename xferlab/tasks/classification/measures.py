"""What is measured of predictions: of each image, and of all validation images at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xferlab.metrics.sets import f1

Floats = npt.NDArray[np.floating[Any]]
CHOSEN = ("youden", "sensitive")
"""Thresholds that validation cases give, in the order of `Classifier.thresholds`."""
HALF = 0.5
_TINY = 1e-12
"""Below this a probability counts as this in a logarithm."""


@dataclass(frozen=True)
class Measures:
    """Measures of classes that exclude each other or not."""

    is_exclusive: bool

    def truth(self, labels: npt.NDArray[np.int64], num_classes: int) -> npt.NDArray[np.float32]:
        """Returns (N, K), 1 for each class that an image is of, of labels (N,) as `Labelling` gives them."""
        numbers = np.arange(num_classes)
        of_class = labels[:, None] == numbers if self.is_exclusive else (labels[:, None] >> numbers) & 1
        return of_class.astype(np.float32)

    def called(self, probability: Floats, threshold: float = HALF) -> npt.NDArray[np.bool_]:
        """Returns which classes an image (K,), or each of several (N, K), is called.

        The most probable one, of equal ones the first; where classes are independent, all above a threshold.
        """
        if not self.is_exclusive:
            return probability > threshold
        numbers = np.arange(probability.shape[-1])
        return np.asarray(probability.argmax(axis=-1)[..., None] == numbers)

    def of_all(self, probability: Floats, truth: Floats) -> dict[str, float]:
        """Returns `accuracy`, of images or, independent, of images and classes, and `mean_f1` over classes.

        A class that no image is of, and none is called, has no F1 and is left out of the mean.
        """
        called = self.called(probability)
        right = called == (truth == 1)
        columns = zip(truth.T.astype(np.float64), called.T.astype(np.float64), strict=True)
        values = [f1(*column) for column in columns]
        defined = [value for value in values if not np.isnan(value)]
        accuracy = right.all(axis=1).mean() if self.is_exclusive else right.mean()
        mean_f1 = sum(defined) / len(defined) if defined else float("nan")
        return {"accuracy": float(accuracy), "mean_f1": mean_f1}

    def of_case(
        self, probability: Floats, truth: Floats, classes: Sequence[str], thresholds: Floats, *, heat: float
    ) -> Mapping[str, float]:
        """Returns the values of one image by name.

        Args:
            probability: (K,).
            truth: (K,).
            classes: Names of the classes.
            thresholds: (2, K), those of `CHOSEN`.
            heat: Share of heat inside of masks.
        """
        called = self.called(probability)
        p = probability.astype(np.float64)
        values = {
            "LOG_LOSS": self._log_loss(p, truth),
            "BRIER": float(((p - truth) ** 2).sum()),
            "HEAT_INSIDE": heat,
            "LABEL": self._number(truth),
            "CALLED": self._number(called),
        }
        by_threshold = dict(zip(CHOSEN, probability > thresholds, strict=True))
        for k, name in enumerate(classes):
            values |= {f"IS_{name}": float(truth[k]), f"P_{name}": float(p[k])}
            values[f"CALLED_{name}"] = float(called[k])
            values |= {f"CALLED_{key.upper()}_{name}": float(by_threshold[key][k]) for key in CHOSEN}
        return values

    def _number(self, of_class: npt.NDArray[np.generic]) -> float:
        """The number of a class; where classes are independent, the sum of 2^k over theirs."""
        places = np.flatnonzero(of_class)
        return float(places[0] if self.is_exclusive else (2.0**places).sum())

    def _log_loss(self, p: Floats, truth: Floats) -> float:
        of_truth = np.log(np.maximum(p, _TINY)) * truth
        if self.is_exclusive:
            return float(-of_truth.sum())
        return float(-(of_truth + np.log(np.maximum(1.0 - p, _TINY)) * (1.0 - truth)).mean())


def thresholds_of(probability: Floats, truth: Floats, *, sensitivity: float) -> npt.NDArray[np.float32]:
    """Returns thresholds of each class against the rest, (2, K): those of `CHOSEN`.

    An image is called above a threshold; each lies in the middle between two probabilities that occur.
    `youden` is where sensitivity plus specificity is highest, the highest such (Youden 1950). `sensitive` is
    the highest that reaches the sensitivity asked for. Both are 0.5 without images of both kinds.

    Args:
        probability: (N, K), of the validation images.
        truth: (N, K), 1 for each class that an image is of.
        sensitivity: In (0, 1).
    """
    columns = [_of_class(probability[:, k], truth[:, k] == 1, sensitivity) for k in range(truth.shape[1])]
    return np.array(columns, np.float32).T


def _of_class(p: Floats, positive: npt.NDArray[np.bool_], sensitivity: float) -> tuple[float, float]:
    if positive.all() or not positive.any():
        return HALF, HALF
    levels = np.unique(p)[::-1].astype(np.float64)  # calling all at or above one, from the highest on
    reached = np.array([(p[positive] >= level).mean() for level in levels])
    spared = np.array([(p[~positive] < level).mean() for level in levels])
    youden, sensitive = int((reached + spared).argmax()), int((reached >= sensitivity).argmax())
    return _below(levels, youden), _below(levels, sensitive)


def _below(levels: Floats, number: int) -> float:
    """The middle between a level and the next lower one, or 0: a float32 that is below the level."""
    lower = float(levels[number + 1]) if number + 1 < len(levels) else 0.0
    middle = float(np.float32((levels[number] + lower) / 2))
    return middle if middle < levels[number] else lower
