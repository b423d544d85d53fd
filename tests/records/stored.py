"""Complete trials as the real writers leave them, without training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from xferlab.plan.spec import TrialSpec
from xferlab.records import codec, writer
from xferlab.records.layout import TrialFiles
from xferlab.records.schema import (
    CASES_SCHEMA,
    FEATURES_SCHEMA,
    CaseOutputs,
    EpochResult,
    EvaluationRecord,
    FeaturesRecord,
    TrialRecord,
    history_sha256,
)
from xferlab.records.store import Store

WEIGHTS = b"weights"
VALUES = {"DICE": (0.5, 1.0, 0.75), "AUC": (1.0, float("nan"), 0.5)}
"""Metrics of three cases."""
FEATURES = {
    "layer": ["encoder1"],
    "gram_start": [[1.0, -1.0, -1.0, 1.0]],
    "gram_best": [[2.0, -2.0, -2.0, 2.0]],
    "distance": [0.5],
    "cosine": [0.9],
    "filter_changes": [[0.1, 0.2, float("inf")]],
}


TRIAL = TrialRecord(
    trial_id="0123456789abcdef",
    identity={"seed": 1, "parent": {"trials": ["aa"]}},
    num_epochs=3,
    best_epoch=2,
    best_score=0.25,
    stopped_by="max_epochs",
    num_parameters=10,
    num_train=6,
    num_validation=2,
    started_from=None,
    weights_sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    weights_bytes=len(WEIGHTS),
    history_sha256="1" * 64,
)


def epoch(number: int, *, train_loss: float | None = None, **times: float) -> EpochResult:
    loss = 0.1 + 0.2 / 3
    values = {"train_loss": train_loss or 0.5 / number, "validation_loss": loss, "lr": 1e-3}
    return EpochResult(number, values, loss, number < 3, **{"train_s": 1.5, "validation_s": 0.5, **times})


def store_trial(
    store: Store,
    spec: TrialSpec,
    results: Sequence[EpochResult] = (epoch(1), epoch(2)),
    *,
    labels: Mapping[str, str] | None = None,
    outputs: Sequence[CaseOutputs] = (),
) -> TrialRecord:
    """Writes all files of a complete trial.

    Args:
        store: Where.
        spec: The trial.
        results: Its epochs.
        labels: Columns of its cases that are not to be made up.
        outputs: Arrays of cases, for each evaluation.
    """
    files = TrialFiles(spec.trial_id)
    codec.write_json(store, files.spec, spec.to_json())
    writer.HistoryFile(store, spec.trial_id, results).finish()
    store.write(files.weights, WEIGHTS)
    record = replace(
        TRIAL,
        trial_id=spec.trial_id,
        identity=spec.identity.to_json(),
        num_epochs=len(results),
        best_epoch=len(results),
        best_score=results[-1].score,
        history_sha256=history_sha256(results),
    )
    writer.write_trial(store, record)
    rows = [(metric, value) for metric, values in VALUES.items() for value in values]
    columns: dict[str, list[Any]] = {name: [name] * len(rows) for name in CASES_SCHEMA.names}
    columns |= {name: [label] * len(rows) for name, label in (labels or {}).items()}
    columns |= {"metric": [metric for metric, _ in rows], "value": [value for _, value in rows]}
    tables = {"cases": writer.table(CASES_SCHEMA, columns), "outputs": writer.outputs_table(outputs)}
    for evaluation in spec.evaluations:
        measured = EvaluationRecord(
            evaluation_id=evaluation.evaluation_id,
            trial_id=spec.trial_id,
            selection=evaluation.selection,
            num_cases=3,
            metrics_version=1,
            weights_sha256=record.weights_sha256,
        )
        writer.write_measurement(store, measured, tables)
    if spec.features is not None:
        extracted = FeaturesRecord(
            features_id=spec.features.features_id,
            trial_id=spec.trial_id,
            selection=spec.features.selection,
            num_cases=2,
            weights_sha256=record.weights_sha256,
        )
        writer.write_measurement(store, extracted, {"features": writer.table(FEATURES_SCHEMA, FEATURES)})
    return record
