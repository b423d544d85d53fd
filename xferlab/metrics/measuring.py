"""All metrics of one image, in the order of tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xferlab import plugins
from xferlab.errors import DataError, PluginError, Problem, UsageError
from xferlab.metrics import boundary, calibration, overlap, ranking, topology
from xferlab.metrics.image import ScoredImage
from xferlab.metrics.metric import ImageMetric, Metric
from xferlab.metrics.pairs import means_of, unions_of

METRICS_VERSION = 3
"""Raised whenever a value may change; part of the identity of an evaluation."""
THRESHOLD = 0.5
"""Probability above which a pixel is predicted, where nothing else is said."""
METRICS: tuple[ImageMetric, ...] = (
    overlap.accuracy,
    ranking.auc,
    overlap.dice,
    overlap.jaccard,
    overlap.jaccard_smooth,
    overlap.dice_pixelwise,
    overlap.macro_precision,
    overlap.macro_recall,
    overlap.macro_f1,
    overlap.sensitivity,
    overlap.specificity,
    overlap.soft_dice,
    overlap.area_ratio,
    overlap.undersegmented,
    boundary.hd95_px,
    boundary.hd95_mm,
    boundary.nsd_2px,
    topology.components,
    topology.bridges,
    topology.islands,
    calibration.brier,
    calibration.expected_calibration_error,
)
NAMES = tuple(metric.name for metric in METRICS)


def check_threshold(threshold: Any, *, name: str) -> None:
    """Refuses a threshold that no probability could be above, or that all would be above.

    Raises:
        UsageError: It is no number from 0 to below 1; `name` is what it is called where it was given.
    """
    if not isinstance(threshold, (int, float, np.number)) or not 0 <= threshold < 1:
        raise UsageError(f"{name}: found {threshold}; accepted: 0 to below 1, such as {THRESHOLD}")


def undefined(metrics: Iterable[Metric] = METRICS) -> dict[str, float]:
    """Returns the values of what is not marked."""
    return dict.fromkeys((metric.name for metric in metrics), math.nan)


@cache
def added(names: tuple[str, ...]) -> tuple[ImageMetric, ...]:
    """Returns metrics of installed packages by name, in order.

    Raises:
        PluginError: There is none of a name, or it cannot be used.
    """
    return tuple(map(_added, names))


def _added(name: str) -> ImageMetric:
    plugin = plugins.find(plugins.METRICS, name, built_in=NAMES)
    if plugin is None:
        raise PluginError(f"no installed package has a metric {name!r}; install the one that has")
    metric: ImageMetric = plugin.load(
        lambda value: isinstance(value, ImageMetric) and value.name == name,
        expected=f"an xferlab.metrics.metric.ImageMetric with the name {name!r}",
    )
    return metric


def metrics_of(structures: Sequence[str], metrics: tuple[ImageMetric, ...] = METRICS) -> tuple[Metric, ...]:
    """Returns what is reported of structures: of several, the mean over them, and then each by itself.

    Those of a structure are called `DICE_heart`; the means have the names that the metrics of one have.
    Where structures are two sides, `DICE_lung` is the mean over both, and `DICE_lungs` that of both as one;
    neither enters the mean over structures.
    """
    if len(structures) < 2:
        return metrics
    means = [replace(metric, definition=f"{metric.definition} {_MEAN}") for metric in metrics]
    words = {
        **dict.fromkeys(structures, ""),
        **{name: f"{name} (mean of left and right)" for name in means_of(structures)},
        **{name: f"{name} (left and right as one)" for name in unions_of(structures)},
    }
    return (*means, *(_of_one(metric, *each) for each in words.items() for metric in metrics))


def _of_one(metric: Metric, name: str, words: str) -> Metric:
    label = f"{metric.label}, {words or name}"
    return replace(metric, name=f"{metric.name}_{name}", label=label, of=name, of_words=words)


def over_structures(
    measured: Mapping[str, Mapping[str, float]],
    *,
    learnt: Sequence[str] = (),
    as_one: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
    metrics: tuple[ImageMetric, ...] = METRICS,
) -> dict[str, float]:
    """Returns the values that `metrics_of` declares, in its order; NaN for what was not measured.

    Args:
        measured: What `measure` returns of each structure that is marked, by name: learnt ones, or both sides
            of a pair that are marked as one. A mean is over these, without what is NaN; it is NaN where
            nothing is left.
        learnt: The structures of `metrics_of`; none for those that were measured.
        as_one: What `measure` returns of other pairs as one, by name.
        metrics: Those that were measured.
    """
    structures = tuple(learnt or measured)
    if len(structures) == 1:
        return dict(*measured.values())
    known, absent = {**measured, **as_one}, undefined(metrics)
    single = {name: known.get(name, absent) for name in (*structures, *unions_of(structures))}
    sides = {
        name: {metric: (single[left][metric] + single[right][metric]) / 2 for metric in absent}
        for name, (left, right) in means_of(structures).items()
    }
    means = {metric: _mean([values[metric] for values in measured.values()]) for metric in absent}
    order = (*structures, *sides, *unions_of(structures))
    every = {**single, **sides}
    return means | {f"{metric}_{name}": value for name in order for metric, value in every[name].items()}


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


_MEAN = "Of several structures: the mean over those where it is defined."


def measure(
    probability: NDArray[np.floating[Any]],
    target: NDArray[np.bool_],
    *,
    ignore: NDArray[np.bool_] | None = None,
    predicted: NDArray[np.bool_] | None = None,
    spacing_mm: tuple[float, float] | None = None,
    metrics: tuple[ImageMetric, ...] = METRICS,
) -> dict[str, float]:
    """Measures one image with every metric.

    Args:
        probability: float32 `(H, W)` in [0, 1], after the sigmoid; wider types are rounded to float32.
        target: bool `(H, W)`.
        ignore: bool `(H, W)`; these pixels count nowhere (see `ScoredImage`). None counts all.
        predicted: bool `(H, W)`, where the structure is predicted; None: where its probability is above 0.5.
        spacing_mm: Distance of neighbouring rows and of neighbouring columns in mm; None if unknown.
        metrics: What is measured.

    Returns:
        Name to value, in the order of `metrics`; NaN where undefined, everywhere if all pixels are ignored.

    Raises:
        DataError: Shapes or types do not fit, a probability is not in [0, 1], or the spacing is not positive.
    """
    image = _score(probability, target, ignore, predicted=predicted, spacing_mm=spacing_mm)
    if image.label.size == 0:
        return undefined(metrics)
    return {metric.name: float(metric.function(image)) for metric in metrics}


def _score(
    probability: NDArray[np.floating[Any]],
    target: NDArray[np.bool_],
    ignore: NDArray[np.bool_] | None,
    *,
    predicted: NDArray[np.bool_] | None,
    spacing_mm: tuple[float, float] | None,
) -> ScoredImage:
    """Checks the arrays and splits off what is ignored."""
    _check(probability, spacing_mm, target=target, ignore=ignore, predicted=predicted)
    output = np.asarray(probability, dtype=np.float32)
    prediction = output > THRESHOLD if predicted is None else predicted
    if ignore is None or not ignore.any():
        return ScoredImage(output.ravel(), target.ravel(), prediction, target, spacing_mm)
    counted = ~ignore
    return ScoredImage(output[counted], target[counted], prediction & counted, target & counted, spacing_mm)


def _check(
    probability: NDArray[Any], spacing_mm: tuple[float, float] | None, **masks: NDArray[Any] | None
) -> None:
    if not np.issubdtype(probability.dtype, np.floating) or probability.ndim != 2:
        _refuse("probability", f"{probability.dtype} {probability.shape}; accepted: floating point (H, W)")
    for name, mask in masks.items():
        if mask is not None and (mask.dtype != np.bool_ or mask.shape != probability.shape):
            _refuse(
                name, f"{mask.dtype} {mask.shape}; accepted: bool {probability.shape}, as the probability"
            )
    if probability.size and not (probability.min() >= 0 and probability.max() <= 1):
        _refuse(
            "probability",
            f"{probability.min()} to {probability.max()}; accepted: [0, 1], no NaN. Apply the sigmoid first",
        )
    if spacing_mm is not None and not all(math.isfinite(step) and step > 0 for step in spacing_mm):
        _refuse(
            "spacing_mm", f"{spacing_mm}; accepted: two positive numbers (row, column), or None if unknown"
        )


def _refuse(argument: str, found: str) -> None:
    raise DataError(Problem(f"measure: {argument}", f"found {found}"))
