"""What is planned and not complete: what became of each trial, and where its log is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from xferlab.analysis.results import StudyResults
from xferlab.analysis.tables.model import ABSENT, Layout, Record, Table
from xferlab.analysis.tables.notes import trial_name
from xferlab.records import reader
from xferlab.records.layout import TrialFiles

_NAMED, _REASONS = 4, 2
_COLUMNS = (
    ("State", "state"),
    ("Reason", "reason"),
    ("Last epoch", "epoch"),
    ("Attempts", "attempts"),
    ("Host", "host"),
    ("When", "when"),
    ("Log", "log"),
)


def missing_table(results: StudyResults) -> Table:
    """Returns a line for each trial that is not complete; without lines where all are."""
    records = [_record(results, row) for row in _missing(results)]
    names = ("arm", "stage", "repetition", *(name for _, name in _COLUMNS))
    return Layout((), ("Trial", "trial"), _COLUMNS).fill(
        Table(
            name="missing",
            title="what is missing",
            caption=(
                "Trials that are planned and not complete; they are in no number.",
                "Reason: the first line of the last error; log: the file in the storage that has all of it.",
            ),
            notes=(),
            data=pd.DataFrame(records, columns=list(names)),
            subject={"kind": "missing"},
        ),
        records,
    )


def missing_lines(results: StudyResults) -> Iterator[str]:
    """Yields what is missing of each arm and stage, in short."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for row in _missing(results):
        groups.setdefault((row["arm"], row["stage"]), []).append(row)
    planned = results.planned()
    for (arm, stage), rows in list(groups.items())[:_NAMED]:
        reasons = list(dict.fromkeys(f"{row['state']} ({row['reason']})" for row in rows))
        reasons[_REASONS:] = [f"{len(reasons) - _REASONS} more reasons"] if len(reasons) > _REASONS else []
        missing = f"{len(rows)} of {planned[arm, stage]} repetitions of {arm}, stage {stage}"
        yield f"Missing: {missing}: {'; '.join(reasons)}"
    if len(groups) > _NAMED:
        yield f"Missing: some repetitions of {len(groups) - _NAMED} more arms and stages, see the study."


def _missing(results: StudyResults) -> list[Record]:
    """Returns the rows of trials that are not complete; one that did not start says what it waits for."""
    complete = set(results.trials["trial_id"]) - {row["trial_id"] for row in results.absent}
    return [{**row, "reason": _reason(results, row, complete)} for row in results.absent]


def _reason(results: StudyResults, row: Record, complete: set[str]) -> str:
    inputs = results.trials_by_id[str(row["trial_id"])]["inputs"]
    parents = {parent for given in inputs for parent in given["trials"]} - complete
    if row["reason"] != "not started" or not parents:
        return str(row["reason"])
    names = [name for parent in sorted(parents) for name in results.trials_by_id[parent]["names"][:1]]
    return f"waits for {', '.join(names)}"


def _record(results: StudyResults, row: Record) -> Record:
    """Returns a line; only what was begun is asked for in the storage."""
    trial_id, failure, run = str(row["trial_id"]), dict[str, Any](), dict[str, Any]()
    if row["state"] == "failed":
        failure = reader.read_failure(results.store, trial_id) or {}
    if row["state"] == "failed" or row["reason"].startswith("last attempt"):
        run = reader.read_run(results.store, trial_id)
    return {
        **{name: row[name] for name in ("arm", "stage", "repetition", "state", "reason")},
        "trial": trial_name(row),
        "attempts": str(len(run.get("attempts") or ())),
        "log": TrialFiles(trial_id).failure if failure else ABSENT,
        **{name: str(failure.get(name) or ABSENT) for name in ("epoch", "host", "when")},
    }
