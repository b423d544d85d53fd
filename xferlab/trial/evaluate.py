"""Measuring a trial's best weights on a set of cases, in float32."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from xferlab.cohort import Case
from xferlab.cohort.dividing import rank
from xferlab.errors import check_names
from xferlab.plan.spec import EvaluationSpec, TrialSpec
from xferlab.records import reader, writer
from xferlab.records.schema import CASES_SCHEMA, CaseOutputs, EvaluationRecord
from xferlab.tasks import registry
from xferlab.training.batches import fixed
from xferlab.training.examples import AnyExamples
from xferlab.trial.examples import TrialContext, evaluated_examples
from xferlab.trial.pictures import pictures_table, rows_to_picture
from xferlab.trial.predictions import predictions_for
from xferlab.trial.training import AnyLearner

TIMED_IMAGES = 20


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

    The tables are `cases`, `outputs` (of a fixed few) and `pictures` (of the worst, median and best).

    `weights` is the SHA-256 of the learner's. `after_case` is called after each case, and may raise to end it
    with nothing written.
    """
    selection = reader.read_selection(context.store, evaluation.selection)
    cases, section = selection.cases(), evaluation.source or evaluation.section
    given = predictions_for(spec, evaluation.predicted, section, context, variant=evaluation.variant)
    shown = set(to_show(cases, evaluation.overlay_cases))
    task = registry.task(spec.identity.task)
    names = task.measured(spec.targets)
    values: list[dict[str, float]] = []
    outputs: list[CaseOutputs] = []
    for part in evaluated_examples(spec, evaluation, selection, context, given):
        for rows in fixed(len(part), spec.identity.training.batch_size):
            predictions = learner.predict(learner.load(part, rows, None))
            for row, prediction in zip(rows.tolist(), predictions, strict=True):
                number = len(values)
                if number in shown:
                    arrays = learner.outputs(part, row, prediction)
                    outputs.append(CaseOutputs(**_labels(cases[number]), arrays=arrays))
                measured = learner.measure(part, row, prediction)
                check_names(
                    "Learner.measure", measured, required=names, accepted=names, declared_in="Task.metrics"
                )
                values.append({**measured, **given.passed(cases[number].digest)})
                after_case()
    tables = {
        "cases": writer.table(CASES_SCHEMA, _case_columns(cases, values)),
        "outputs": writer.outputs_table(outputs),
    }
    if to_picture := rows_to_picture(task, evaluation, cases, values):
        tables |= pictures_table(task, learner, part, {row: cases[row].digest for row in to_picture})
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
        _wait_for_device()  # for the copies that made the batch
        started = time.perf_counter()
        learner.predict(batch)
        _wait_for_device()
        times.append((time.perf_counter() - started) * 1e3)
    kept = np.array(times[2:])
    deviation = float(kept.std(ddof=1)) if len(kept) > 1 else 0.0
    return {"mean": float(kept.mean()), "sd": deviation, "n": len(kept)}


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


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
