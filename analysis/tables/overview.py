"""What the numbers rest on: the cohorts, what arms are trained on, and how much of the plan is complete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from xferlab.analysis.results import StudyResults
from xferlab.analysis.selection import ALL, ordered_pathologies
from xferlab.analysis.tables.model import ABSENT, Layout, Table
from xferlab.analysis.tables.notes import arm_names, data_notes

FEW = 0.6
"""Share of the baseline's training images below which an arm is marked."""

_COUNTS = {"patients": "train_patients", "images": "num_train", "validation": "num_validation"}
_COHORTS = Layout(
    (("Section", "section"), ("Source", "source"), ("Hold-out", "share")),
    ("Pathology", "pathology"),
    (("Images", "num_images"), ("Patients", "num_patients")),
)
_TRAINING = Layout(
    (("Stage", "stage"),),
    ("Arm", "arms"),
    (
        ("Repetitions", "repetitions"),
        ("Training patients", "patients"),
        ("Training images", "images"),
        ("Validation images", "validation"),
    ),
)
_PROGRESS = Layout(
    (("Arms", "arms"),), ("Stage", "stage"), (("Complete", "num_done"), ("Planned", "num_planned"))
)


def cohorts_table(results: StudyResults) -> Table:
    """Returns images and patients of each data section, by pathology."""
    records = [
        {
            "section": section,
            **{name: data.get(name) for name in ("source", "simulate", "hold_out")},
            "pathology": pathology,
            "num_images": counts.get("cases"),
            "num_patients": counts.get("patients"),
            "share": f"{float(data.get('hold_out') or 0) * 100:.0f} %",
        }
        for section, data in results.plan["data"].items()
        for pathology, counts in _by_pathology(data)
    ]
    table = Table(
        name="cohorts",
        title="Cohorts",
        caption=(
            "Images and patients of each data section.",
            "Hold-out: share of its patients that no stage trains, stops or selects on.",
        ),
        notes=data_notes(results, (), results.plan["data"]),
        data=pd.DataFrame(records).drop(columns="share"),
    )
    return _COHORTS.fill(table, records)


def _by_pathology(data: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    counts = {ALL: data, **data.get("pathologies", {})}
    yield from ((pathology, counts[pathology]) for pathology in ordered_pathologies(counts))


def fitted(results: StudyResults, stage: str, arm: str) -> pd.DataFrame:
    """Returns a row per planned repetition: patients, images (trained on) and validation (images).

    Patients are NaN in plans of a version that did not count them.
    """
    ids = results.trial_ids(arm, stage)
    rows = [
        {name: trial.get(field) for name, field in _COUNTS.items()}
        for trial in results.plan["trials"]
        if trial["trial_id"] in ids
    ]
    return pd.DataFrame(rows, columns=list(_COUNTS), dtype="float64")


def spread(fit: pd.DataFrame, what: str) -> str:
    """Returns the mean with its range, one number where all are equal, a dash where unknown."""
    values = fit[what]
    if not len(values) or values.isna().any():
        return ABSENT
    low, high, mean = values.min(), values.max(), values.mean()
    return f"{mean:.0f}" if low == high else f"{mean:.1f} [{low:.0f}–{high:.0f}]"


def few_labels(results: StudyResults, stage: str) -> dict[str, float]:
    """Returns the arms that train a stage on much fewer images than the baseline does, with the share."""
    whole = fitted(results, stage, results.baseline)["images"].mean()
    shares = {arm: fitted(results, stage, arm)["images"].mean() / whole for arm in results.arms}
    return {arm: float(share) for arm, share in shares.items() if share < FEW}


def training_table(results: StudyResults) -> Table:
    """Returns training patients and images of each stage and arm; arms of equal numbers share a line."""
    records, rows = [], []
    for stage in results.stages:
        fits = {arm: fit for arm in results.arms if len(fit := fitted(results, stage, arm))}
        for arm, fit in fits.items():
            ranges = (fit[what].agg(how) for what in _COUNTS for how in ("mean", "min", "max"))
            rows.append((stage, arm, len(fit), *ranges))
        texts = {arm: (str(len(fit)), *(spread(fit, what) for what in _COUNTS)) for arm, fit in fits.items()}
        for arms in results.grouped_arms(texts.get):
            values = dict(zip(("repetitions", *_COUNTS), texts[arms[0]], strict=True))
            records.append({"stage": stage, "arms": arm_names(results, arms), **values})
    columns = [f"{what}_{how}" for what in _COUNTS for how in ("mean", "min", "max")]
    table = Table(
        name="training",
        title="What each arm is trained on",
        caption=(
            "Of each repetition: mean and, where repetitions differ, [least–most].",
            "A share of the labels is a share of the training patients; validation and test stay whole.",
        ),
        notes=(),
        data=pd.DataFrame(rows, columns=["stage", "arm", "repetitions", *columns]),
    )
    return _TRAINING.fill(table, records)


def progress_table(results: StudyResults) -> Table:
    """Returns how many repetitions are complete of how many planned, by arm and stage."""
    counts = results.counts()
    none = {"stage": "no trained stage", "num_done": 0, "num_planned": 0}

    def lines(arm: str) -> tuple[tuple[Any, ...], ...]:
        own = counts.loc[counts["arm"] == arm, list(none)]
        return tuple(own.itertuples(index=False, name=None)) or (tuple(none.values()),)

    table = Table(
        name="progress",
        title="Complete repetitions",
        caption=("A trial counts when its training and all its evaluations are stored and verify.",),
        notes=(),
        data=results.trials,
    )
    records = (
        {"arms": arm_names(results, arms), **dict(zip(none, line, strict=True))}
        for arms in results.grouped_arms(lines)
        for line in lines(arms[0])
    )
    return _PROGRESS.fill(table, records)
