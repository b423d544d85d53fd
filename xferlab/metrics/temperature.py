"""Temperature scaling: one number for each network that makes its probabilities less, or more, extreme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, log_softmax, logit, softmax

Floats = NDArray[np.floating[Any]]
LARGEST = 100.0
"""Temperatures are between this and its reciprocal."""


@dataclass(frozen=True)
class Outcomes:
    """Probabilities, and what came true.

    Attributes:
        probability: Of K classes, (K, N).
        truth: 1 for what is true, else 0, (K, N).
        is_exclusive: Whether the probabilities of the K classes sum to one. Else each stands by itself.
    """

    probability: Floats
    truth: Floats
    is_exclusive: bool


def joined(several: Sequence[Outcomes]) -> Outcomes:
    """Returns outcomes of the same classes, one at least, as one."""
    probability, truth = (
        np.concatenate([getattr(each, name) for each in several], axis=1) for name in ("probability", "truth")
    )
    return Outcomes(probability, truth, several[0].is_exclusive)


def scaled(probability: Floats, temperature: float, *, is_exclusive: bool) -> NDArray[np.float32]:
    """Returns probabilities (K, ...) at a temperature: softmax(log p / T), or sigmoid(logit p / T).

    Above 1 they are less extreme. What is most probable, and what is above 0.5 by itself, stays so (Guo et
    al. 2017, section 4.2).
    """
    logits = _logits(probability, is_exclusive) / temperature
    return np.asarray(softmax(logits, axis=0) if is_exclusive else expit(logits), np.float32)


def log_loss(outcomes: Outcomes, temperature: float) -> float:
    """Returns the mean negative log likelihood of outcomes, one at least, at a temperature, in nats."""
    logits, truth = _logits(outcomes.probability, outcomes.is_exclusive) / temperature, outcomes.truth
    if outcomes.is_exclusive:
        told = truth * log_softmax(logits, axis=0)
    else:
        told = truth * log_expit(logits) + (1 - truth) * log_expit(-logits)
    return float(-told.sum(axis=0).mean())


def fitted_temperature(outcomes: Outcomes) -> float:
    """Returns the temperature with the least negative log likelihood (Guo et al. 2017); NaN of no outcomes.

    From 1 / `LARGEST`, of outcomes that are all told right, to `LARGEST`, of probabilities that know nothing.
    """
    from scipy.optimize import minimize_scalar  # takes 0.3 s, and every worker imports this module

    if not outcomes.truth.size:
        return float("nan")
    bounds = -np.log(LARGEST), np.log(LARGEST)
    least = minimize_scalar(lambda log: log_loss(outcomes, np.exp(log)), bounds=bounds, method="bounded")
    return float(np.exp(least.x))


def is_at_bound(temperature: float) -> bool:
    """Returns whether a fitted temperature is at a bound: beyond it, the likelihood may grow on."""
    return bool(abs(np.log(temperature)) > np.log(LARGEST) - 1e-3)  # the search ends within 1e-5 of a bound


def _logits(probability: Floats, is_exclusive: bool) -> NDArray[np.float64]:
    """Up to a constant; what float32 rounds to 0, or to 1 beside it, is the nearest that it does not."""
    given = probability.astype(np.float64)
    if is_exclusive:
        return np.asarray(np.log(np.maximum(given, np.finfo(np.float32).tiny)))
    least = float(np.finfo(np.float32).eps)
    return np.asarray(logit(np.clip(given, least, 1 - least)))
