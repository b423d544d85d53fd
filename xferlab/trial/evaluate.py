"""Measuring a trial's best weights on a set of cases, in float32."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from xferlab.cohort import Case
from xferlab.cohort.splits import rank
from xferlab.metrics import METRICS_VERSION
from xferlab.plan.spec import EvaluationSpec, TrialSpec
from xferlab.records import reader, writer
from xferlab.records.schema import CASES_SCHEMA, CaseOutputs, EvaluationRecord
from xferlab.training.learner import Examples
from xferlab.training.precision import float32
from xferlab.trial.assemble import TrialContext, is_native, task_of
from xferlab.trial.variants import View, views

TIMED_IMAGES = 20


def evaluate(
    spec: TrialSpec,
    evaluation: EvaluationSpec,
    model: nn.Module,
    context: TrialContext,
    *,
    weights: str,
    after_case: Callable[[], None] = lambda: None,
) -> EvaluationRecord:
    """Measures every case, writes `cases.parquet` and `outputs.parquet`, and the record that completes it.

    `weights` is the SHA-256 of the model's. `after_case` is called after each case, and may raise to end it
    with nothing written.
    """
    cases = reader.read_selection(context.store, evaluation.selection).cases()
    shown = to_show(cases, evaluation.overlay_cases)
    looked_at = views(spec, evaluation, [case.digest for case in cases], context)
    measured, pixels = _measure(model, looked_at, shown=shown, after_case=after_case)
    tables = {
        "cases": writer.table(CASES_SCHEMA, _case_columns(cases, measured)),
        "outputs": writer.outputs_table(
            CaseOutputs(**_identity_of(cases[row]), arrays=pixels[row]) for row in sorted(pixels)
        ),
    }
    record = EvaluationRecord(
        evaluation_id=evaluation.evaluation_id,
        trial_id=spec.trial_id,
        selection=evaluation.selection,
        num_cases=len(cases),
        metrics_version=METRICS_VERSION,
        cases_sha256=hashlib.sha256(tables["cases"]).hexdigest(),
        outputs_sha256=hashlib.sha256(tables["outputs"]).hexdigest(),
        weights_sha256=weights,
    )
    writer.write_evaluation(context.store, record, **tables)
    return record


def to_show(cases: Sequence[Case], per_pathology: int) -> list[int]:
    """Returns rows of a fixed few cases per pathology: by a seeded order of digests, equal for all trials."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row in sorted(range(len(cases)), key=lambda row: rank("overlay", cases[row].digest)):
        groups[cases[row].pathology].append(row)
    return sorted(row for rows in groups.values() for row in rows[:per_pathology])


def _measure(
    model: nn.Module, looked_at: Iterable[View], *, shown: Sequence[int], after_case: Callable[[], None]
) -> tuple[list[dict[str, float]], dict[int, dict[str, Any]]]:
    model.eval()
    measured: list[dict[str, float]] = []
    pixels: dict[int, dict[str, Any]] = {}
    for view in looked_at:
        for row, prediction in view.predictions(model):
            if len(measured) in shown:
                pixels[len(measured)] = dict(view.pixels(row, prediction))
            measured.append(dict(view.measure(row, prediction)))
            after_case()
    return measured, pixels


def show(spec: TrialSpec, model: nn.Module, loaded: Examples, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Returns the pixels of some cases, for a mirror's overlays."""
    task = task_of(spec.identity)
    model.eval()
    shown = []
    for row in rows:
        batch = task.batch(loaded, np.array([row]), None)
        shown.append(dict(task.pixels(loaded, row, task.predict(model, batch)[0])))
    return shown


def _case_columns(cases: Sequence[Case], measured: Sequence[dict[str, float]]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in CASES_SCHEMA.names}
    for case, values in zip(cases, measured, strict=True):
        for name, value in _identity_of(case).items():
            columns[name].extend([value] * len(values))
        columns["metric"].extend(values)
        columns["value"].extend(values.values())
    return columns


def _identity_of(case: Case) -> dict[str, str]:
    return {
        "case": case.digest,
        "name": case.name,
        "patient": case.patient,
        "pathology": case.pathology,
        "simulated": case.simulated,
    }


def network_time(spec: TrialSpec, model: nn.Module, loaded: Examples) -> dict[str, float]:
    """Returns the time of one image through the network in ms: mean, sd (n - 1), n; first calls left out.

    Of images at native size it is the time of a prediction: normalised, padded or cut, and blended.
    """
    task, native = task_of(spec.identity), is_native(spec.identity)
    model.eval()
    times: list[float] = []
    for row in range(min(len(loaded), TIMED_IMAGES) + 2):
        batch = task.batch(loaded, np.array([row % len(loaded)]), None)
        started = time.perf_counter()
        with torch.inference_mode(), float32():
            if native:
                task.predict(model, batch)
            else:
                model(batch.inputs)
        if next(model.parameters()).is_cuda:
            torch.cuda.synchronize()
        times.append((time.perf_counter() - started) * 1e3)
    kept = np.array(times[2:])
    deviation = float(kept.std(ddof=1)) if len(kept) > 1 else 0.0
    return {"mean": float(kept.mean()), "sd": deviation, "n": len(kept)}
