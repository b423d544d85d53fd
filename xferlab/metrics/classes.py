"""What is reported of a task that tells classes, and what is measured of a case for it.

For a class `ill`, a case has the values `IS_ill` and `P_ill` (its probability), and whether it is called so:
`CALLED_ill`, and where the task chooses thresholds on the validation part, `CALLED_YOUDEN_ill` and
`CALLED_SENSITIVE_ill`. Where classes exclude each other, the numbers of the true class (`LABEL`) and of the
most probable one (`CALLED`) are defined, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xferlab.metrics.metric import Metric
from xferlab.metrics.sets import MACRO

THRESHOLD = 0.5
"""Probability above which a class is called, where classes do not exclude each other."""
YOUDEN, SENSITIVE = "YOUDEN", "SENSITIVE"
NAMED_THRESHOLDS = {
    YOUDEN: "the threshold of the class with the largest sensitivity + specificity on the validation part",
    SENSITIVE: "the highest threshold of the class that reaches the asked sensitivity on the validation part",
}
"""Thresholds that are chosen on the validation part, with what they are."""


class _Kind(NamedTuple):
    """A metric of one class against the rest."""

    name: str
    label: str
    computed_by: str
    takes: str
    definition: str
    undefined: str
    source: str = "-"
    prominence: Literal["main", "headline", "further"] = "headline"
    better: Literal["higher", "lower"] = "higher"


_NO_CASE = "NaN where no image is of the class."
_ONE_KIND = "NaN without images of both kinds."
_RANKED = (
    _Kind(
        "AUROC",
        "AUC",
        "roc_auc",
        "P",
        "Probability that an image of the class gets a higher probability of it than another, ties half.",
        _ONE_KIND,
        "Bradley 1997",
        "main",
    ),
    _Kind(
        "AVERAGE_PRECISION",
        "Average precision",
        "average_precision",
        "P",
        "Sum over thresholds of the precision times the gain in sensitivity: area under the precision-recall "
        "curve, without interpolation.",
        _NO_CASE,
    ),
)
_CALLED = (
    _Kind("SENSITIVITY", "Sensitivity", "sensitivity", "CALLED", "TP / (TP + FN).", _NO_CASE),
    _Kind(
        "SPECIFICITY",
        "Specificity",
        "specificity",
        "CALLED",
        "TN / (TN + FP).",
        "NaN where all images are of the class.",
    ),
    _Kind(
        "PRECISION", "Precision", "precision", "CALLED", "TP / (TP + FP).", "NaN where no image is called so."
    ),
    _Kind(
        "F1_SCORE",
        "F1",
        "f1",
        "CALLED",
        "2 TP / (2 TP + FP + FN).",
        "NaN where no image is of the class and none is called so.",
        "van Rijsbergen 1979",
    ),
)
_BALANCED = _Kind(
    "BALANCED_ACCURACY",
    "Balanced accuracy",
    "balanced_accuracy",
    "CALLED",
    "Mean of sensitivity and specificity.",
    "NaN where all images are of one class.",
    "Brodersen et al. 2010",
)
_CALIBRATION = _Kind(
    "CALIBRATION_ERROR",
    "Calibration error",
    "expected_calibration_error",
    "P",
    "Mean over images of |mean probability - frequency of the class| of their bin, one of 15 equal ones.",
    "Always defined.",
    "Guo et al. 2017, eq. 3",
    "further",
    "lower",
)
ACCURACY = Metric(
    name="ACCURACY",
    label="Accuracy",
    better="higher",
    source="-",
    prominence="main",
    definition="1 where the image is called what it is, 0 elsewhere: by its most probable class or, where "
    "patches vote, by the class of most of them. Where classes do not exclude each other, 1 where every "
    "class is told right at a threshold of 0.5.",
)
LOG_LOSS = Metric(
    name="LOG_LOSS",
    label="Log loss",
    better="lower",
    source="-",
    definition="Minus the natural logarithm of the probability that is given to what is true of the image, "
    "which counts as at least 1.2e-7; where classes do not exclude each other, summed over them.",
)
BRIER_SCORE = Metric(
    name="BRIER_SCORE",
    label="Brier score",
    better="lower",
    source="Brier 1950",
    definition="Sum over classes of the squared difference of probability and truth (1 or 0).",
)
_OF_LABELS = Metric(
    name=_BALANCED.name,
    label=_BALANCED.label,
    better="higher",
    source=_BALANCED.source,
    prominence="headline",
    definition="Mean over the true classes of the share of each that is told right.",
    undefined=f"{_BALANCED.undefined} NaN where classes do not exclude each other.",
    computed_by="balanced_accuracy",
    made_of=("LABEL", "CALLED"),
)


def metrics_of_classes(targets: Sequence[str], thresholds: Iterable[str] = ()) -> tuple[Metric, ...]:
    """Returns what is reported of a task that tells classes: over all of them, then of each against the rest.

    Args:
        targets: Names of the classes.
        thresholds: Those of `NAMED_THRESHOLDS` that the task chooses on the validation part.
    """
    kinds = [*_RANKED, *_CALLED, _CALIBRATION, *_at(thresholds)]
    first, *others = (_macro(kind) for kind in kinds)
    single = [_of(kind, name) for name in targets for kind in (*kinds, _BALANCED)]
    return (first, ACCURACY, _OF_LABELS, *others, LOG_LOSS, BRIER_SCORE, *single)


def values_of_classes(
    names: Sequence[str],
    truth: NDArray[np.bool_],
    probability: NDArray[np.floating],
    *,
    exclusive: bool,
    thresholds: Mapping[str, Sequence[float]] | None = None,
    voted: int | None = None,
) -> dict[str, float]:
    """Returns what `metrics_of_classes` needs of a case, for `Learner.measure`.

    Args:
        names: Names of the classes, K of them.
        truth: Which classes the case has, bool (K,).
        probability: Of each class, (K,), in [0, 1].
        exclusive: Whether it has one class (a softmax), or any number of them (a sigmoid each).
        thresholds: Of each class, by the names that `metrics_of_classes` got: it is called from there on. NaN
            where the validation part gave none, as without a case of the class; the case is undefined then.
    """
    given = np.asarray(probability, dtype=np.float64)
    likely = given.argmax() if voted is None else voted
    called = np.arange(len(given)) == likely if exclusive else given > THRESHOLD
    numbers = (truth.argmax(), likely) if exclusive else (np.nan, np.nan)
    values = {"ACCURACY": float(np.array_equal(called, truth))}
    values |= {"LABEL": float(numbers[0]), "CALLED": float(numbers[1])}
    values |= {"LOG_LOSS": _log_loss(truth, given, exclusive=exclusive)}
    values |= {"BRIER_SCORE": float(((given - truth) ** 2).sum())}
    for number, name in enumerate(names):
        values |= {f"IS_{name}": float(truth[number]), f"P_{name}": float(given[number])}
        values |= {f"CALLED_{name}": float(called[number])}
        for chosen, limits in (thresholds or {}).items():
            limit = float(limits[number])
            above = float("nan") if np.isnan(limit) else float(given[number] >= limit)
            values[f"CALLED_{chosen}_{name}"] = above
    return values


def voted(probability: NDArray[np.floating[Any]]) -> int:
    """Returns the class that most patches vote for, each for its most probable one (oh2020, section II-B).

    Of classes with equally many votes, the one with the larger sum of probabilities.

    Args:
        probability: (P, K), of each patch and class.
    """
    votes = np.bincount(probability.argmax(axis=1), minlength=probability.shape[1])
    return int(np.lexsort((probability.sum(axis=0, dtype=np.float64), votes))[-1])


def _log_loss(truth: NDArray[np.bool_], probability: NDArray[np.float64], *, exclusive: bool) -> float:
    """A probability of 0 counts as the least that float32 tells from it beside 1, as a network rounds it."""
    least = float(np.finfo(np.float32).eps)
    given = np.clip(probability, least, 1 - least)
    other = 0.0 if exclusive else float(np.log1p(-given[~truth]).sum())
    return -float(np.log(given[truth]).sum()) - other


def _at(thresholds: Iterable[str]) -> Iterator[_Kind]:
    for name in thresholds:
        for kind in _CALLED:
            yield kind._replace(
                name=f"{kind.name}_AT_{name}",
                label=f"{kind.label} ({name.lower()})",
                takes=f"{kind.takes}_{name}",
                definition=f"{kind.definition} Called so: from {NAMED_THRESHOLDS[name]} on.",
                prominence="further",
            )


def _macro(kind: _Kind) -> Metric:
    return Metric(
        name=kind.name,
        label=f"{kind.label} (macro)",
        better=kind.better,
        source=kind.source,
        prominence=kind.prominence,
        definition=f"Mean over the classes, each against the rest: {kind.definition}",
        undefined=f"{kind.undefined} NaN where it is for one of the classes.",
        computed_by=MACRO,
    )


def _of(kind: _Kind, name: str) -> Metric:
    return Metric(
        name=f"{kind.name}_{name}",
        label=f"{kind.label}, {name}",
        better=kind.better,
        source=kind.source,
        prominence="headline" if kind.prominence == "main" else kind.prominence,
        definition=f"{name} against the rest: {kind.definition}",
        undefined=kind.undefined,
        computed_by=kind.computed_by,
        made_of=(f"IS_{name}", f"{kind.takes}_{name}"),
        of=name,
    )
