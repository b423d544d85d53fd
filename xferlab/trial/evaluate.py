"""Measuring a trial's best weights on a set of cases, in float32."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from xferlab.cohort import Case
from xferlab.cohort.dividing import rank
from xferlab.errors import check_names
from xferlab.parallel import in_background
from xferlab.plan.spec import EvaluationSpec, TrialSpec
from xferlab.records import reader, writer
from xferlab.records.schema import CASES_SCHEMA, CaseOutputs, EvaluationRecord
from xferlab.tasks import registry
from xferlab.training.examples import AnyExamples
from xferlab.training.learner import Array, predicted_rows
from xferlab.trial.examples import TrialContext, evaluated_examples
from xferlab.trial.given import Given
from xferlab.trial.pictures import pictures_table, rows_to_picture
from xferlab.trial.predictions import predictions_for
from xferlab.trial.training import AnyLearner

TIMED_IMAGES = 20


class PredictedCase(NamedTuple):
    """A case, its place among examples, and the network's output for it."""

    case: Case
    examples: AnyExamples
    row: int
    output: Array


class _Measured(NamedTuple):
    """What is stored of a case: its values, and its arrays if it is one of the fixed few."""

    examples: AnyExamples
    values: dict[str, float]
    outputs: tuple[CaseOutputs, ...]


def evaluate(
    spec: TrialSpec,
    evaluation: EvaluationSpec,
    learner: AnyLearner,
    context: TrialContext,
    *,
    weights: str,
    after_case: Callable[[], None] = lambda: None,
) -> EvaluationRecord:
    """Measures every case, and writes its tables and then the record that completes it.

    The tables are `cases`, `outputs` (of a fixed few) and `pictures` (of the worst, median and best). The
    network predicts the next batch while the cases of the last one are measured.

    `weights` is the SHA-256 of the learner's. `after_case` is called after each case, and may raise to end it
    with nothing written.
    """
    selection = reader.read_selection(context.store, evaluation.selection)
    cases = selection.cases()
    given = predictions_for(
        spec, evaluation.predicted, evaluation.read_as, context, variant=evaluation.variant
    )
    task, batch_size = registry.task(spec.identity.task), spec.identity.training.batch_size
    shown = {cases[row].digest for row in to_show(cases, evaluation.overlay_cases)}
    names = task.measured(spec.targets, tuple(name for name, _ in evaluation.metrics))
    measure = partial(_measured, learner, given, names=names, shown=shown)
    parts = evaluated_examples(spec, evaluation, selection, context, given)
    predicted = predicted_cases(learner, parts, cases, batch_size)
    threads = _num_threads(spec, context.device)
    values: list[dict[str, float]] = []
    outputs: list[CaseOutputs] = []
    with closing(in_background(predicted, measure, threads=threads, ahead=batch_size)) as results:
        for measured in results:
            values.append(measured.values)
            outputs += measured.outputs
            after_case()
    tables = {
        "cases": writer.table(CASES_SCHEMA, _case_columns(cases, values)),
        "outputs": writer.outputs_table(outputs),
    }
    if to_picture := rows_to_picture(task, evaluation, cases, values):
        digests = {row: cases[row].digest for row in to_picture}
        tables |= pictures_table(task, learner, measured.examples, digests, threads=threads)
    record = EvaluationRecord(
        evaluation_id=evaluation.evaluation_id,
        trial_id=spec.trial_id,
        selection=evaluation.selection,
        num_cases=len(cases),
        metrics_version=task.metrics_version,
        weights_sha256=weights,
        predictions=given.used or None,
    )
    return writer.write_measurement(context.store, record, tables)


def _num_threads(spec: TrialSpec, device: torch.device) -> int:
    """Returns how many threads measure cases beside the network: one for each core that the trial reserves.

    On a CPU the network needs `threads` of these cores. Where none is left, its own thread measures.
    """
    cores = int(spec.settings.resources.cpu)
    return max(1, cores) if device.type == "cuda" else max(0, cores - (spec.identity.execution.threads or 1))


def predicted_cases(
    learner: AnyLearner, parts: Iterable[AnyExamples], cases: Iterable[Case], batch_size: int
) -> Iterator[PredictedCase]:
    """Yields what a network predicts of cases, in their order; `parts` are their examples."""
    remaining = iter(cases)
    for part in parts:
        for row, output in predicted_rows(learner, part, batch_size):
            yield PredictedCase(next(remaining), part, row, output)


def _measured(
    learner: AnyLearner, given: Given, predicted: PredictedCase, *, names: Sequence[str], shown: Set[str]
) -> _Measured:
    """Raises what the learner raises; a note then says which case it was."""
    case, examples, row, output = predicted
    try:
        values = learner.measure(examples, row, output)
        arrays = learner.outputs(examples, row, output) if case.digest in shown else None
    except Exception as error:
        error.add_note(f"while case {case.digest} was measured")
        raise
    check_names("Learner.measure", values, required=names, accepted=names, declared_in="Task.metrics")
    stored = () if arrays is None else (CaseOutputs(**_labels(case), arrays=arrays),)
    return _Measured(examples, {**values, **given.passed(case.digest)}, stored)


def to_show(cases: Sequence[Case], per_pathology: int) -> list[int]:
    """Returns rows of a fixed few cases per pathology: by a seeded order of digests, equal for all trials."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row in sorted(range(len(cases)), key=lambda row: rank("overlay", cases[row].digest)):
        groups[cases[row].pathology].append(row)
    return sorted(row for rows in groups.values() for row in rows[:per_pathology])


def prediction_time(learner: AnyLearner, examples: AnyExamples) -> dict[str, float]:
    """Returns the time of a prediction of one image in ms: mean, SD (n - 1), n; first calls left out."""
    times: list[float] = []
    for row in range(min(len(examples), TIMED_IMAGES) + 2):
        batch = learner.load(examples, np.array([row % len(examples)]), None)
        _wait_for(examples.device)  # for the copies that made the batch
        started = time.perf_counter()
        learner.predict(batch)
        _wait_for(examples.device)
        times.append((time.perf_counter() - started) * 1e3)
    kept = np.array(times[2:])
    deviation = float(kept.std(ddof=1)) if len(kept) > 1 else 0.0
    return {"mean": float(kept.mean()), "sd": deviation, "n": len(kept)}


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _case_columns(cases: Sequence[Case], measured: Sequence[dict[str, float]]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in CASES_SCHEMA.names}
    for case, values in zip(cases, measured, strict=True):
        for name, label in _labels(case).items():
            columns[name].extend([label] * len(values))
        columns["metric"].extend(values)
        columns["value"].extend(values.values())
    return columns


def _labels(case: Case) -> dict[str, str]:
    return {
        "case": case.digest,
        "name": case.name,
        "patient": case.patient,
        "pathology": case.pathology,
        "simulated": case.simulated,
    }
