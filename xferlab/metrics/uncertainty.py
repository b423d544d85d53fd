"""How uncertain several networks are together, and how far apart they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

Floats = NDArray[np.float32]
LARGEST_SD = 0.5
"""The largest standard deviation of probabilities: half of the networks say 0, the others 1."""


@dataclass(frozen=True)
class Uncertainty:
    """What N networks say of each pixel, or of an image (shape `()`); one network disagrees with nobody.

    Attributes:
        entropy: Of the mean probabilities, in nats, from 0 to `largest_entropy`: the predictive entropy (Gal
            2016, "Uncertainty in deep learning").
        mutual_information: Between what is predicted and the network that predicts it, in nats, from 0 to the
            entropy: the entropy less the mean entropy of the networks (ibid.).
        disagreement: Standard deviation of the probability between the networks (divisor N), in [0, 0.5]; of
            several classes that of the class on which they differ most.
    """

    entropy: Floats
    mutual_information: Floats
    disagreement: Floats

    @staticmethod
    def of(probability: Floats, *, is_exclusive: bool) -> Uncertainty:
        """Returns it for probabilities (N, K, ...) of K classes; arguments as of `entropy`."""
        total = entropy(probability.mean(axis=0), is_exclusive=is_exclusive)
        of_each = np.mean([entropy(each, is_exclusive=is_exclusive) for each in probability], axis=0)
        return Uncertainty(total, np.maximum(total - of_each, 0), probability.std(axis=0).max(axis=0))

    def columns(self) -> dict[str, float]:
        """Returns its means, as columns of the table of `predict`."""
        return {name: round(float(values.mean()), 6) for name, values in vars(self).items()}


def entropy(probability: Floats, *, is_exclusive: bool) -> Floats:
    """Returns the entropy of classes with probabilities (K, ...), in nats, shape (...).

    Args:
        probability: Of each class; 0 adds nothing.
        is_exclusive: Whether they sum to one. Else each class is there or not, and their entropies are added,
            as of independent events.
    """
    of_each = entr(probability) if is_exclusive else entr(probability) + entr(1 - probability)
    return np.asarray(of_each.sum(axis=0))


def largest_entropy(num_classes: int, *, is_exclusive: bool) -> float:
    """Returns the entropy, in nats, where nothing is known of so many classes: ln K, or K ln 2."""
    return float(np.log(num_classes) if is_exclusive else num_classes * np.log(2))
