"""Cases to look at in the run of a study: a few of each set, with what the networks make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow.compute as pc

from xferlab.plan.identity import sha256_of
from xferlab.plan.spec import EvaluationSpec, TrialSpec
from xferlab.records.reader import read_cases, read_evaluation, read_outputs
from xferlab.records.schema import CaseOutputs, EvaluationRecord
from xferlab.records.store import Store
from xferlab.tracking.content import is_shareable, pixel_row

MAX_OVERLAYS = 64
"""Cases of a study that its run shows at most."""
COLUMNS = ("arm", "stage", "set", "pathology", "case", "metric", "value")
"""What is said of each, beside its picture."""


@dataclass(frozen=True)
class Overlay:
    """A case as a trial sees it.

    Attributes:
        labels: Values of `COLUMNS`.
        case: Its arrays.
    """

    labels: tuple[str | float | None, ...]
    case: CaseOutputs

    def message(self) -> dict[str, Any]:
        """Returns labels and pixels for the writer."""
        return {"labels": list(self.labels), "picture": pixel_row(self.case.arrays, caption=self.case.name)}

    @property
    def digest(self) -> str:
        """Digest of all that it shows."""
        return sha256_of([[repr(label) for label in self.labels], _shown(self.case)])


def overlays(
    store: Store,
    trials: Iterable[TrialSpec],
    *,
    images: int,
    metric: Callable[[TrialSpec], str],
) -> list[Overlay]:
    """Returns cases of the sets whose sections are shareable, those of different pathologies first.

    Args:
        store: Where the records are.
        trials: A trial of each stage of each arm; one that is not complete shows nothing. Its data say what
            is shareable.
        images: Cases of a set of a trial at most; `MAX_OVERLAYS` are shared among all sets.
        metric: Returns the metric of a case that is given as its value.

    Raises:
        StorageError: The storage cannot be read, or a table is damaged.
    """
    sets = [
        _Measured(trial, evaluation, record)
        for trial in trials
        for evaluation in trial.evaluations
        if is_shareable(trial.data, evaluation.read_as)
        and (record := read_evaluation(store, trial.trial_id, evaluation.evaluation_id))
    ]
    number = min(images, max(1, MAX_OVERLAYS // max(1, len(sets))))
    shown = [
        overlay
        for measured in sets[:MAX_OVERLAYS]
        for overlay in _of_set(store, measured, number, metric(measured.trial))
    ]
    return shown[:MAX_OVERLAYS]


class _Measured(NamedTuple):
    trial: TrialSpec
    evaluation: EvaluationSpec
    record: EvaluationRecord


def _of_set(store: Store, measured: _Measured, number: int, metric: str) -> Iterator[Overlay]:
    cases = [case for case in read_outputs(store, measured.record) if "image" in _shown(case)]
    rows = read_cases(store, measured.record)
    of_metric = rows.filter(pc.equal(rows["metric"], metric)).to_pydict()
    values = dict(zip(of_metric["case"], of_metric["value"], strict=True))
    trial, evaluation = measured.trial, measured.evaluation
    arms = ", ".join(evaluation.arms or trial.arms)
    for case in _varied(cases)[:number]:
        value = values.get(case.case)
        place = (arms, trial.stage, evaluation.name, case.pathology, case.name)
        yield Overlay((*place, metric, None if value is None or value != value else value), case)


def _shown(case: CaseOutputs) -> Mapping[str, Any]:
    arrays: Mapping[str, Any] = pixel_row(case.arrays)["arrays"]
    return arrays


def _varied(cases: Sequence[CaseOutputs]) -> list[CaseOutputs]:
    """Returns the cases so that the first ones are of as many pathologies as there are."""
    seen: dict[str, int] = {}
    ranked = []
    for case in cases:
        seen[case.pathology] = seen.get(case.pathology, 0) + 1
        ranked.append((seen[case.pathology], case))
    return [case for _, case in sorted(ranked, key=lambda pair: pair[0])]
