"""Where the numbers come from: study file, plan, data, software, machines, and the time that it took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from xferlab.analysis.contents import Contents
from xferlab.analysis.results import StudyResults
from xferlab.analysis.tables.model import ABSENT, Layout, Record, Table
from xferlab.analysis.tables.notes import arm_names

UNKNOWN = "not recorded"
_HOURS = ("train_s", "evaluation_s", "rest_s", "total_s")
_TIME = Layout(
    (("Stage", "stage"),),
    ("Arm", "arm"),
    (
        ("Trials", "trials"),
        ("Training", "train_s"),
        ("Evaluation", "evaluation_s"),
        ("All else", "rest_s"),
        ("In all", "total_s"),
    ),
)


def provenance_tables(contents: Contents) -> Iterator[Table]:
    """Yields what the numbers come from and, where a trial is complete, what they cost."""
    results = contents.results
    records = [{"what": what, "value": value} for what, value in _facts(results)]
    yield Layout((), ("What", "what"), (("Value", "value"),)).fill(
        Table(
            name="provenance",
            title="provenance",
            caption=(
                "Digests are of names, seeds and identities (plan), and of all images and masks (data).",
                "In parentheses: complete trials.",
            ),
            notes=(),
            data=pd.DataFrame(records),
            subject={"kind": "provenance"},
            prose=True,
        ),
        records,
    )
    if len(results.runs):
        yield _hours_table(results)


def _facts(results: StudyResults) -> Iterator[tuple[str, str]]:
    """Yields what is known of a study, and what is not known, by its heading."""
    plan, runs = results.plan, results.runs.drop_duplicates("trial_id")
    planned: Mapping[str, Any] = plan.get("planned") or {}
    file = planned.get("file") or {}
    yield "Study file", f"{file['name']}, SHA-256 {file['sha256']}" if file else UNKNOWN
    profile = f" --profile {plan['profile']}" if plan.get("profile") else ""
    yield "Command", f"xferlab run {file['name']}{profile}" if file else UNKNOWN
    yield "Plan", f"digest {planned['digest']}, {planned['at']}" if planned else UNKNOWN
    yield "Seed", str(plan["seed"])
    for section, data in plan["data"].items():
        digest = (planned.get("data") or {}).get(section)
        counts = f"{data.get('cases')} images of {data.get('patients')} patients"
        yield f"Data: {section}", f"{data.get('source')}, {counts}, digest {digest or UNKNOWN}"
    ended = sorted(filter(None, (when for when in runs["ended"]))) if len(runs) else []
    yield "Trials ended", f"{ended[0]} to {ended[-1]}" if ended else UNKNOWN
    versions_of = software(results) or {"Software": []}
    yield from ((name, _counted(versions)) for name, versions in versions_of.items())
    for name, what in (("host", "Hosts"), ("device_name", "Devices")):
        yield what, _counted(runs[name]) if len(runs) else UNKNOWN
    yield "Energy", f"{UNKNOWN}: no trial measures it"


def software(results: StudyResults) -> dict[str, list[str]]:
    """Returns the version of each package that each complete trial ran with; xferlab comes first."""
    runs = results.runs.drop_duplicates("trial_id")
    known = [versions for versions in runs.get("versions", ()) if versions]
    names = {name for versions in known for name in versions}
    return {
        name: [versions[name] for versions in known if name in versions]
        for name in sorted(names, key=lambda name: (name != "xferlab", name))
    }


def _counted(values: Any) -> str:
    counts = Counter(str(value) for value in values if value and not pd.isna(value))
    return "; ".join(f"{value} ({number})" for value, number in sorted(counts.items())) or UNKNOWN


def _hours_table(results: StudyResults) -> Table:
    frame = hours(results)
    trials = frame.drop_duplicates("trial_id")

    def records() -> Iterator[Record]:
        for stage in results.stages:
            for arms in results.arms_by_trials(stage):
                rows = frame[(frame["stage"] == stage) & (frame["arm"] == arms[0])]
                if len(rows):
                    yield {"stage": stage, "arm": arm_names(results, arms), **_summed(rows)}
        yield {"stage": "all stages", "arm": "all arms, each trial once", **_summed(trials)}

    return _TIME.fill(
        Table(
            name="hours",
            title="time of complete trials, by stage and arm",
            caption=(
                "Hours:minutes:seconds, summed over trials, on whatever machine they ran, several at once or "
                "not.",
                "Training: all epochs with validation. Evaluation and all else (loading, checkpoints, "
                "predictions for others): where evaluation was recorded. Attempts that were killed are in "
                "none.",
            ),
            notes=(),
            data=frame.drop(columns=["versions"]),
            subject={"kind": "hours"},
        ),
        records(),
    )


def hours(results: StudyResults) -> pd.DataFrame:
    """Returns seconds of each arm and complete trial: `train_s`, `evaluation_s`, `rest_s`, `total_s`.

    Where the time of the evaluation is not recorded, it and the rest are NaN. A trial that continues a
    shorter one counts its own epochs only, as far as its total has them.
    """
    epochs = results.histories.assign(
        seconds=results.histories["train_s"] + results.histories["validation_s"]
    )
    trained = epochs.groupby(["arm", "trial_id"])["seconds"].sum().rename("train_s")
    frame = results.runs.join(trained, on=["arm", "trial_id"])
    frame["train_s"] = frame["train_s"].clip(upper=frame["total_s"])
    known = frame["train_s"].fillna(0.0) + frame["evaluation_s"]
    return frame.assign(rest_s=(frame["total_s"] - known).clip(lower=0.0))


def _summed(rows: pd.DataFrame) -> Record:
    whole = {name: rows[name].sum() if rows[name].notna().all() else None for name in _HOURS}
    return {"trials": str(len(rows)), **{name: _clock(seconds) for name, seconds in whole.items()}}


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return ABSENT
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
