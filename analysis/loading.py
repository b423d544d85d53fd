"""Reads all that a study has stored into tidy frames; what is not complete is counted, never guessed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from xferlab.analysis.results import StudyResults, arms_of, part_of, planned_repetitions
from xferlab.errors import StorageError
from xferlab.records import reader
from xferlab.records.schema import CASES_SCHEMA, EpochResult
from xferlab.records.store import Store

log = logging.getLogger("xferlab.analysis")

CASE_COLUMNS = (
    "arm",
    "stage",
    "repetition",
    "trial_id",
    "section",
    "part",
    "case",
    "name",
    "patient",
    "pathology",
    "simulated",
    "metric",
    "value",
    "parent_may_have_seen",
)
_TRIAL_COLUMNS = ("arm", "stage", "repetition", "trial_id")
_RUN_COLUMNS = (
    "device",
    "device_name",
    "total_s",
    "memory_peak_gib",
    "network_mean_ms",
    "network_sd_ms",
    "network_n",
    "num_attempts",
    "best_epoch",
)


class _Placed(NamedTuple):
    """A complete trial with its place in one arm."""

    place: tuple[str, str, int, str]
    trial: Mapping[str, Any]


def load(storage: str | Path, study: str) -> pd.DataFrame:
    """Returns a study's results as one tidy frame, a row per arm, trial, evaluation, case and metric.

    Columns: arm, stage, repetition (from 1), trial_id, section, part (with `@implant`
    or another variant where the cases are looked at otherwise), case (digest), name, patient, pathology,
    simulated (empty for a real device), metric, value (float64, NaN where the metric is undefined),
    parent_may_have_seen. A trial that arms share appears once per arm. Trials that are not complete are
    absent; `attrs["planned"]` has the number of planned repetitions of each (arm, stage).

    Raises:
        RecordError: There is no plan of this study, or it is damaged.
        StorageError: The storage cannot be read.
    """
    return load_study(storage, study).cases


def load_study(storage: str | Path, study: str) -> StudyResults:
    """Returns all that is stored of a study.

    Raises:
        RecordError: There is no plan of this study, or it is damaged.
        StorageError: The storage cannot be read.
    """
    store = Store.open(storage)
    plan = reader.read_plan(store, study)
    evaluated: dict[str, list[_Evaluated]] = {}
    rows, placed = [], []
    for trial in plan["trials"]:
        state, reason = _state(store, trial, evaluated)
        for place in _places(trial):
            rows.append((*place, state, reason))
            if state == "complete":
                placed.append(_Placed(place, trial))
    trials = pd.DataFrame(rows, columns=[*_TRIAL_COLUMNS, "state", "reason"])
    cases = _cases(placed, evaluated)
    cases.attrs["planned"] = planned_repetitions(trials)
    problems: list[str] = []
    histories = _histories(store, placed, problems)
    return StudyResults(study, plan, store, trials, cases, histories, _runs(store, placed), problems)


class _Evaluated(NamedTuple):
    """One evaluation with its rows."""

    section: str
    part: str
    parent_may_have_seen: bool
    arms: tuple[str, ...]
    table: pa.Table


def _places(trial: Mapping[str, Any]) -> Iterator[tuple[str, str, int, str]]:
    for name in trial["names"]:
        arm, stage, repetition = name.split("/")
        yield arm, stage, int(repetition.removeprefix("r")), trial["trial_id"]


def _state(store: Store, trial: Mapping[str, Any], evaluated: dict[str, list[_Evaluated]]) -> tuple[str, str]:
    """Returns state and reason; a complete trial's evaluations are put into `evaluated`."""
    trial_id = trial["trial_id"]
    try:
        failure = reader.read_failure(store, trial_id)
        complete = reader.read_trial(store, trial_id) is not None
        tables = _evaluations(store, trial) if complete else None
    except StorageError as error:
        return "damaged", str(error)
    if tables is None:
        return (
            ("failed", _failure_text(failure))
            if failure
            else ("not complete", _absence(store, trial_id, trained=complete))
        )
    evaluated[trial_id] = tables
    return "complete", ""


def _absence(store: Store, trial_id: str, *, trained: bool) -> str:
    if trained:
        return "trained, not yet evaluated"
    attempts = reader.read_run(store, trial_id).get("attempts") or []
    return f"last attempt: {attempts[-1].get('outcome', 'unknown')}" if attempts else "not started"


def _failure_text(failure: Mapping[str, Any]) -> str:
    message = str(failure.get("message") or "").strip().splitlines()
    words = [str(failure.get("type") or ""), *message[:1]]
    return ": ".join(word for word in words if word) or "no reason stored"


def _evaluations(store: Store, trial: Mapping[str, Any]) -> list[_Evaluated] | None:
    found = []
    for one in trial["evaluations"]:
        record = reader.read_evaluation(store, trial["trial_id"], one["evaluation_id"])
        if record is None:
            return None
        table = reader.read_cases(store, record)
        seen, arms = bool(one["parent_may_have_seen"]), arms_of(trial, one)
        found.append(_Evaluated(one["section"], part_of(one), seen, arms, table))
    asked = trial.get("features")
    if asked and reader.read_features_record(store, trial["trial_id"], asked["features_id"]) is None:
        return None
    return found


def _cases(placed: Sequence[_Placed], evaluated: Mapping[str, list[_Evaluated]]) -> pd.DataFrame:
    pieces = [
        (one.place, item)
        for one in placed
        for item in evaluated[one.trial["trial_id"]]
        if one.place[0] in item.arms
    ]
    tables = [item.table.select(CASES_SCHEMA.names) for _, item in pieces] or [CASES_SCHEMA.empty_table()]
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    frame: pd.DataFrame = table.to_pandas(use_threads=False)
    lengths = [item.table.num_rows for _, item in pieces]
    labels = [(*place, item.section, item.part, item.parent_may_have_seen) for place, item in pieces]
    names = (*_TRIAL_COLUMNS, "section", "part", "parent_may_have_seen")
    for name, values in zip(names, zip(*labels, strict=True) if labels else [()] * len(names), strict=True):
        frame[name] = _spread(name, values, lengths)
    return frame[list(CASE_COLUMNS)]


def _spread(name: str, values: Sequence[Any], lengths: Sequence[int]) -> Any:
    if name in ("repetition", "parent_may_have_seen"):
        return np.repeat(np.asarray(values, dtype=int if name == "repetition" else bool), lengths)
    categories = list(dict.fromkeys(values))
    codes = [categories.index(value) for value in values]
    return pd.Categorical.from_codes(
        np.repeat(np.asarray(codes, dtype=np.int32), lengths), pd.Index(categories, dtype=str)
    )


def _histories(store: Store, placed: Sequence[_Placed], problems: list[str]) -> pd.DataFrame:
    rows = []
    for trial_id, places in _by_trial(placed).items():
        epochs = [result.flat() for result in _history(store, trial_id, problems)]
        labels = [dict(zip(_TRIAL_COLUMNS, place, strict=True)) for place in places]
        rows += [{**label, **epoch} for label in labels for epoch in epochs]
    return pd.DataFrame(rows, columns=None if rows else [*_TRIAL_COLUMNS, "epoch", "score", "improved"])


def _history(store: Store, trial_id: str, problems: list[str]) -> list[EpochResult]:
    record = reader.read_trial(store, trial_id)
    try:
        return reader.read_history(store, trial_id, sha256=record.history_sha256 if record else None)
    except StorageError as error:  # a learning curve is not worth the report
        log.warning("%s; the report leaves its curve out", error)
        problems.append(f"{error}; its learning curve is left out")
        return []


def _runs(store: Store, placed: Sequence[_Placed]) -> pd.DataFrame:
    rows = []
    for trial_id, places in _by_trial(placed).items():
        run, record = reader.read_run(store, trial_id), reader.read_trial(store, trial_id)
        network = run.get("network_ms_per_image") or {}
        values = (
            run.get("device"),
            run.get("device_name"),
            run.get("total_s", np.nan),
            run.get("memory_peak_gib", np.nan),
            network.get("mean", np.nan),
            network.get("sd", np.nan),
            network.get("n", 0),
            len(run.get("attempts") or ()),
            record.best_epoch if record else np.nan,
        )
        rows += [(*place, *values) for place in places]
    return pd.DataFrame(rows, columns=[*_TRIAL_COLUMNS, *_RUN_COLUMNS])


def _by_trial(placed: Sequence[_Placed]) -> dict[str, list[tuple[str, str, int, str]]]:
    places: dict[str, list[tuple[str, str, int, str]]] = {}
    for one in placed:
        places.setdefault(one.trial["trial_id"], []).append(one.place)
    return places
