"""All metrics of the catalogue for one image."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xferlab.errors import DataError, Problem
from xferlab.metrics.catalogue import CATALOGUE
from xferlab.metrics.image import ScoredImage


def measure(
    probability: NDArray[np.floating[Any]],
    target: NDArray[np.bool_],
    *,
    ignore: NDArray[np.bool_] | None = None,
    threshold: float = 0.5,
    spacing_mm: tuple[float, float] | None = None,
) -> dict[str, float]:
    """Measures one image with every metric of the catalogue.

    Args:
        probability: float32 `(H, W)` in [0, 1], after the sigmoid; wider types are rounded to float32.
        target: bool `(H, W)`.
        ignore: bool `(H, W)`; these pixels count nowhere (see `ScoredImage`). None counts all.
        threshold: A pixel is predicted where its probability is greater.
        spacing_mm: Distance of neighbouring rows and of neighbouring columns in mm; None if unknown.

    Returns:
        Name to value, in the order of `CATALOGUE`; NaN where undefined, everywhere if all pixels are ignored.

    Raises:
        DataError: Shapes or types do not fit, a probability is not in [0, 1], or the spacing is not positive.
    """
    image = _score(probability, target, ignore, threshold=threshold, spacing_mm=spacing_mm)
    if image.label.size == 0:
        return {metric.name: math.nan for metric in CATALOGUE}
    return {metric.name: float(_resolve(metric.function)(image)) for metric in CATALOGUE}


@cache
def _resolve(function: str) -> Callable[[ScoredImage], float]:
    """Returns the function that a catalogue entry names; imported late, since SciPy is slow to import."""
    module, _, name = function.partition(".")
    return cast(Callable[[ScoredImage], float], getattr(import_module(f"xferlab.metrics.{module}"), name))


def _score(
    probability: NDArray[np.floating[Any]],
    target: NDArray[np.bool_],
    ignore: NDArray[np.bool_] | None,
    *,
    threshold: float,
    spacing_mm: tuple[float, float] | None,
) -> ScoredImage:
    """Checks the arrays and splits off what is ignored."""
    _check_arrays(probability, target, ignore)
    _check_spacing(spacing_mm)
    output = np.asarray(probability, dtype=np.float32)
    prediction = output > threshold
    if ignore is None:
        return ScoredImage(output.ravel(), target.ravel(), prediction, target, spacing_mm)
    counted = ~ignore
    return ScoredImage(output[counted], target[counted], prediction & counted, target & counted, spacing_mm)


def _check_arrays(probability: NDArray[Any], target: NDArray[Any], ignore: NDArray[Any] | None) -> None:
    if not np.issubdtype(probability.dtype, np.floating) or probability.ndim != 2:
        _refuse("probability", f"{probability.dtype} {probability.shape}; accepted: floating point (H, W)")
    for name, mask in (("target", target), ("ignore", ignore)):
        if mask is not None and (mask.dtype != np.bool_ or mask.shape != probability.shape):
            _refuse(
                name, f"{mask.dtype} {mask.shape}; accepted: bool {probability.shape}, as the probability"
            )
    if probability.size and not (probability.min() >= 0 and probability.max() <= 1):
        _refuse(
            "probability",
            f"{probability.min()} to {probability.max()}; accepted: [0, 1], no NaN. Apply the sigmoid first",
        )


def _check_spacing(spacing_mm: tuple[float, float] | None) -> None:
    if spacing_mm is not None and not all(math.isfinite(step) and step > 0 for step in spacing_mm):
        _refuse(
            "spacing_mm", f"{spacing_mm}; accepted: two positive numbers (row, column), or None if unknown"
        )


def _refuse(argument: str, found: str) -> None:
    raise DataError(Problem(f"measure: {argument}", f"found {found}"))
