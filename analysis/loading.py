"""Reads all that a study has stored into tidy frames; what is not complete is counted, never guessed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from xferlab.analysis.division import coordinates_of
from xferlab.analysis.results import StudyResults, is_gated, part_of
from xferlab.errors import OtherVersionError, StorageError
from xferlab.records import cancellations, reader
from xferlab.records.schema import CASES_SCHEMA, TrialRecord
from xferlab.records.store import Store

log = logging.getLogger("xferlab.analysis")

CASE_COLUMNS = (
    *("arm", "stage", "repetition", "trial_id", "section", "part", "case", "name", "patient"),
    *("pathology", "simulated", "metric", "value", "parent_may_have_seen"),
)
CANCELLED = "cancelled in the last run"
"""Why a trial is not complete."""
COUNTS = ("train_patients", "num_train", "num_validation")
_EPOCH_COLUMNS = ("epoch", "score", "improved", "train_s", "validation_s")
_TRIAL_COLUMNS = ("arm", "stage", "repetition", "trial_id")

Coordinates = tuple[str, str, int, str]
"""Values of `_TRIAL_COLUMNS`: a trial as one of its arms names it."""


class _Trial(NamedTuple):
    """What is stored of a planned trial; a record and tables (one per evaluation) where it is complete."""

    planned: Mapping[str, Any]
    state: str
    reason: str
    record: TrialRecord | None = None
    tables: Sequence[pa.Table] = ()

    def coordinates(self) -> Iterator[Coordinates]:
        for name in self.planned["names"]:
            arm, stage, repetition = name.split("/")
            yield arm, stage, int(repetition.removeprefix("r")), self.planned["trial_id"]


def load(storage: str | Path | Store, study: str) -> pd.DataFrame:
    """Returns a study's results as one tidy frame, a row per arm, trial, evaluation, case and metric.

    Columns: arm, stage, repetition (from 1), trial_id, section, part (with `@implant`
    or another variant where the cases are looked at otherwise), case (digest), name, patient, pathology,
    simulated (empty for a real device), metric, value (float64, NaN where the metric is undefined),
    parent_may_have_seen. A trial that arms share appears once per arm. Trials that are not complete are
    absent; `attrs["planned"]` has the number of planned repetitions of each `arm/stage/section/part`. For
    metrics of sets of cases, `attrs["sets"]` (as JSON), the rows hold what they are made of. A Parquet file
    keeps `attrs`, a CSV file does not.

    Raises:
        RecordError: There is no plan of this study, it is damaged, or another version of xferlab wrote it or
            one of the records.
        StorageError: The storage cannot be read.
    """
    return load_study(storage, study).cases


def load_study(storage: str | Path | Store, study: str) -> StudyResults:
    """Returns all that is stored of a study.

    Raises:
        RecordError: There is no plan of this study, it is damaged, or another version of xferlab wrote it or
            one of the records.
        StorageError: The storage cannot be read.
    """
    store = Store.open(storage)
    plan = reader.read_plan(store, study)
    cancelled = cancellations.read_cancelled(store, study)
    trials = [_read(store, planned, cancelled) for planned in _with_results(plan)]
    plan = {**plan, "trials": [trial.planned for trial in trials]}
    complete, problems = [trial for trial in trials if trial.record], list[str]()
    results = StudyResults(
        study=study,
        plan=plan,
        store=store,
        trials=_per_trial(trials, _state, ()),
        cases=_cases(complete),
        histories=_per_trial(complete, partial(_epochs, store, problems), _EPOCH_COLUMNS),
        runs=_per_trial(complete, partial(_run, store), ("device", "best_epoch", "num_epochs", "stopped_by")),
        problems=problems,
    )
    # As texts: pandas writes attributes to files as JSON.
    results.histories.attrs["planned"] = {"/".join(key): num for key, num in results.planned().items()}
    results.cases.attrs |= {
        "planned": {"/".join(key): num for key, num in results.planned_evaluations().items()},
        "sets": [metric.to_json() for metric in results.metrics.of_sets],
    }
    return results


def _with_results(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yields the trials, without those that only predict for others, out of fold."""
    folds = {trial["trial_id"] for trial in plan["trials"] if trial.get("fold")}
    for trial in plan["trials"]:
        if trial["trial_id"] not in folds:
            inputs = [
                {**given, "trials": [parent for parent in given["trials"] if parent not in folds]}
                for given in trial["inputs"]
            ]
            yield {**trial, "inputs": inputs}


def _read(store: Store, planned: Mapping[str, Any], cancelled: Collection[str]) -> _Trial:
    trial_id = planned["trial_id"]
    try:
        failure = reader.read_failure(store, trial_id)
        record = reader.read_trial(store, trial_id)
        tables = _evaluations(store, planned) if record else None
    except OtherVersionError:  # nothing is damaged, and no report may say so
        raise
    except StorageError as error:
        return _Trial(planned, "damaged", _without_location(store, error))
    if record and tables is not None:
        return _Trial(_as_trained(planned, record), "complete", "", record, tables)
    if failure:
        return _Trial(planned, "failed", _failure_text(failure))
    if trial_id in cancelled:  # the reason that was given names a host
        return _Trial(planned, "not complete", CANCELLED)
    return _Trial(planned, "not complete", _absence(store, trial_id, trained=record is not None))


def _without_location(store: Store, error: StorageError) -> str:
    """Returns an error about a file of a storage without folders of this machine: pages are passed on."""
    return str(error).replace(store.path(""), "").replace(store.shown, "the storage")


def _as_trained(planned: Mapping[str, Any], record: TrialRecord) -> Mapping[str, Any]:
    """Returns a plan's entry with the numbers of images that a gate left to train and to select on."""
    if not is_gated(planned):
        return planned
    return {**planned, "num_train": record.num_train, "num_validation": record.num_validation}


def _state(trial: _Trial) -> list[Mapping[str, Any]]:
    counts = {name: trial.planned[name] for name in COUNTS}
    coordinates = coordinates_of(trial.planned)
    more = {"coordinates": coordinates} if coordinates else {}
    return [{"state": trial.state, "reason": trial.reason, **counts, **more}]


def _absence(store: Store, trial_id: str, *, trained: bool) -> str:
    if trained:
        return "trained, not yet evaluated"
    attempts = reader.read_run(store, trial_id).get("attempts") or []
    return f"last attempt: {attempts[-1].get('outcome', 'unknown')}" if attempts else "not started"


def _failure_text(failure: Mapping[str, Any]) -> str:
    message = str(failure.get("message") or "").strip().splitlines()
    words = [str(failure.get("type") or ""), *message[:1]]
    return ": ".join(word for word in words if word) or "no reason stored"


def _evaluations(store: Store, planned: Mapping[str, Any]) -> list[pa.Table] | None:
    """Returns the cases of each planned evaluation; None where one of them, or the features, are missing."""
    trial_id, features, tables = planned["trial_id"], planned.get("features"), []
    for evaluation in planned["evaluations"]:
        record = reader.read_evaluation(store, trial_id, evaluation["evaluation_id"])
        if record is None:
            return None
        tables.append(reader.read_cases(store, record))
    if features and reader.read_features_record(store, trial_id, features["features_id"]) is None:
        return None
    return tables


def _cases(trials: Iterable[_Trial]) -> pd.DataFrame:
    nowhere = {"section": "", "part": "", "variant": "", "parent_may_have_seen": False}
    pieces = [_labelled(CASES_SCHEMA.empty_table(), ("", "", 0, ""), nowhere)]
    pieces += [
        _labelled(table, names, evaluation)
        for trial in trials
        for names in trial.coordinates()
        for evaluation, table in zip(trial.planned["evaluations"], trial.tables, strict=True)
        if names[0] in evaluation["arms"]
    ]
    table = pa.concat_tables(pieces).unify_dictionaries().combine_chunks()
    frame: pd.DataFrame = table.to_pandas(use_threads=False)
    return frame


def _labelled(table: pa.Table, names: Coordinates, evaluation: Mapping[str, Any]) -> pa.Table:
    """Returns the cases of an evaluation with the columns that are the same for all of them."""
    values = {
        **dict(zip(_TRIAL_COLUMNS, names, strict=True)),
        "section": evaluation["section"],
        "part": part_of(evaluation),
        "parent_may_have_seen": evaluation["parent_may_have_seen"],
    }
    columns = {name: table[name] for name in CASES_SCHEMA.names}
    for name, value in values.items():
        column = pa.repeat(value, table.num_rows)
        columns[name] = column.dictionary_encode() if isinstance(value, str) else column
    return pa.table({name: columns[name] for name in CASE_COLUMNS})


def _per_trial(
    trials: Iterable[_Trial], rows_of: Callable[[_Trial], Iterable[Mapping[str, Any]]], empty: Sequence[str]
) -> pd.DataFrame:
    """Returns the rows of each trial, once for each arm that has it; `empty` columns if there are none."""
    rows = [
        {**dict(zip(_TRIAL_COLUMNS, names, strict=True)), **row}
        for trial in trials
        for row in rows_of(trial)
        for names in trial.coordinates()
    ]
    return pd.DataFrame(rows, columns=None if rows else [*_TRIAL_COLUMNS, *empty])


def _epochs(store: Store, problems: list[str], trial: _Trial) -> list[Mapping[str, Any]]:
    assert trial.record
    try:
        history = reader.read_history(store, trial.record.trial_id, sha256=trial.record.history_sha256)
    except StorageError as error:  # a learning curve is not worth the report
        log.warning("%s; the report leaves its curve out", error)
        problems.append(f"{error}; its learning curve is left out")
        return []
    return [result.flat() for result in history]


def _run(store: Store, trial: _Trial) -> list[Mapping[str, Any]]:
    assert trial.record
    run = reader.read_run(store, trial.record.trial_id)
    network, attempts = run.get("network_ms_per_image") or {}, run.get("attempts") or ()
    return [
        {
            "device": run.get("device"),
            "device_name": run.get("device_name"),
            "host": run.get("host"),
            "versions": run.get("versions"),
            "ended": max((str(each.get("ended") or "") for each in attempts), default=""),
            "evaluation_s": run.get("evaluation_s", np.nan),
            "total_s": run.get("total_s", np.nan),
            "memory_peak_gib": run.get("memory_peak_gib", np.nan),
            "network_mean_ms": network.get("mean", np.nan),
            "network_sd_ms": network.get("sd", np.nan),
            "network_n": network.get("n", 0),
            "num_attempts": len(attempts),
            "continues": any("continues" in attempt for attempt in attempts),
            "best_epoch": trial.record.best_epoch,
            "num_epochs": trial.record.num_epochs,
            "stopped_by": trial.record.stopped_by
            + (" without a score" if trial.record.best_score is None else ""),
        }
    ]
