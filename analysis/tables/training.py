"""What a stage of an arm was trained on: patients and images of each repetition."""

from __future__ import annotations

import pandas as pd

from xferlab.analysis.results import StudyResults
from xferlab.analysis.tables.model import ABSENT, Group, Row, Table
from xferlab.analysis.tables.notes import arm_names

FEW = 0.6
"""Share of the baseline's training images below which an arm is marked."""

_COUNTS = {"patients": "train_patients", "images": "num_train", "validation": "num_validation"}


def fitted(results: StudyResults, stage: str, arm: str) -> pd.DataFrame:
    """Returns a row per planned repetition: patients, images (trained on) and validation (images).

    Patients are NaN in plans of a version that did not count them.
    """
    own = results.trials
    ids = set(own.loc[(own["arm"] == arm) & (own["stage"] == stage), "trial_id"])
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


def training_table(results: StudyResults) -> Table | None:
    """Returns training patients and images of each stage and arm; None without a trained stage."""
    groups, rows = [], []
    for stage in results.stages:
        alike: dict[tuple[str, ...], list[str]] = {}
        for arm in results.arms:
            fit = fitted(results, stage, arm)
            if not len(fit):
                continue
            alike.setdefault((str(len(fit)), *(spread(fit, what) for what in _COUNTS)), []).append(arm)
            ranges = (getattr(fit[w], how)() for w in _COUNTS for how in ("mean", "min", "max"))
            rows.append((stage, arm, len(fit), *ranges))
        lines = [Row(arm_names(results, arms), cells) for cells, arms in alike.items()]
        groups += [Group((stage,), tuple(lines))] if lines else []
    if not groups:
        return None
    told = [f"{name}_{how}" for name in _COUNTS for how in ("mean", "min", "max")]
    return Table(
        name="training",
        title="What each arm is trained on",
        caption=(
            "Of each repetition: mean and, where repetitions differ, [least–most].",
            "A share of the labels is a share of the training patients; validation and test stay whole.",
        ),
        notes=(),
        head=("Stage",),
        stub="Arm",
        columns=("Repetitions", "Training patients", "Training images", "Validation images"),
        groups=tuple(groups),
        data=pd.DataFrame(rows, columns=["stage", "arm", "repetitions", *told]),
    )
