"""What is planned and not complete: what became of each trial, and where its log is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from xferlab.analysis.results import StudyResults
from xferlab.analysis.tables.model import ABSENT, Layout, Record, Table
from xferlab.analysis.tables.notes import trial_name
from xferlab.records import reader
from xferlab.records.layout import TrialFiles

_NAMED = 4
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
    rows = pd.DataFrame(_missing(results), columns=results.trials.columns)
    planned = results.planned()
    groups = list(rows.groupby(["arm", "stage"], sort=False))
    for place, some in groups[:_NAMED]:
        arm, stage = map(str, place)
        reasons = dict.fromkeys(
            f"{row['state']} ({_reason(results, row)})" for row in some.to_dict("records")
        )
        yield (
            f"Missing: {len(some)} of {planned[arm, stage]} repetitions of {arm}, stage {stage}: "
            f"{'; '.join(reasons)}"
        )
    if len(groups) > _NAMED:
        yield f"Missing: some repetitions of {len(groups) - _NAMED} more arms and stages, see the study."


def _missing(results: StudyResults) -> list[Mapping[Any, Any]]:
    return results.trials[results.trials["state"] != "complete"].to_dict("records")  # type: ignore[return-value]


def _record(results: StudyResults, row: Mapping[Any, Any]) -> Record:
    files = TrialFiles(str(row["trial_id"]))
    failure, run = dict[str, Any](), dict[str, Any]()
    if row["state"] != "damaged":
        failure = reader.read_failure(results.store, str(row["trial_id"])) or {}
        run = reader.read_run(results.store, str(row["trial_id"]))
    return {
        **{name: row[name] for name in ("arm", "stage", "repetition", "state")},
        "trial": trial_name(row),
        "reason": _reason(results, row),
        "attempts": str(len(run.get("attempts") or ())),
        "log": files.failure if failure else ABSENT,
        **{name: str(failure.get(name) or ABSENT) for name in ("epoch", "host", "when")},
    }


def _reason(results: StudyResults, row: Mapping[Any, Any]) -> str:
    """Returns why a trial is not complete; of one that did not start, what it waits for."""
    complete = set(results.trials.loc[results.trials["state"] == "complete", "trial_id"])
    inputs = results.trials_by_id[str(row["trial_id"])]["inputs"]
    parents = {parent for given in inputs for parent in given["trials"]} - complete
    if row["reason"] != "not started" or not parents:
        return str(row["reason"])
    names = [name for parent in sorted(parents) for name in results.trials_by_id[parent]["names"][:1]]
    return f"waits for {', '.join(names)}"
