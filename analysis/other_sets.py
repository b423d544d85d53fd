"""The sets of cases beside the first that stages learn from, such as images of another domain."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from xferlab.analysis.results import TRAINED_ON, StudyResults

Place = tuple[str, str]
"""A stage and an arm."""


class Labelled(NamedTuple):
    """The labels that a stage learns from of another set than its first.

    Attributes:
        counts: Patients and images with labels, as of `StudyResults.training_counts`; 0 where there are none.
        of: The set; empty where there are none.
        share: Of the images of the set.
    """

    counts: pd.Series
    of: str = ""
    share: float = 0.0

    @property
    def images(self) -> float:
        """Mean number of images with labels over repetitions."""
        return float(self.counts["images_mean"])


def other_sets(results: StudyResults) -> dict[Place, pd.DataFrame]:
    """Returns the other sets of each stage and arm that has any, a row by name.

    A name `b.labelled` is of the images of set `b` whose labels are learnt. Columns: data (the section), and
    mean, min and max over the planned repetitions as in `StudyResults.training_counts`.
    """
    rows = [
        {"stage": trial["stage"], "arm": arm, "set": other["name"], "data": other["data"]}
        | {column: other[name] for name, column in TRAINED_ON.items()}
        for trial in results.plan["trials"]
        for other in trial.get("others", ())
        for arm in trial["arms"]
    ]
    if not rows:
        return {}
    groups = pd.DataFrame(rows).groupby(["stage", "arm", "set"], sort=False)
    counts = groups[list(TRAINED_ON.values())].agg(["mean", "min", "max"]).astype("float64")
    counts.columns = ["_".join(names) for names in counts.columns]
    counts.insert(0, "data", groups["data"].first())
    return {
        (str(stage), str(arm)): own.droplevel(["stage", "arm"])
        for (stage, arm), own in counts.groupby(level=["stage", "arm"])
    }


def labelled(results: StudyResults) -> dict[Place, Labelled]:
    """Returns of each stage and arm with other sets what it learns of their labels."""
    return {place: _labelled(sets.drop(columns="data")) for place, sets in other_sets(results).items()}


def _labelled(sets: pd.DataFrame) -> Labelled:
    for name, counts in sets.iterrows():
        whole, _, part = str(name).partition(".")
        if part:
            share = counts["images_mean"] / sets["images_mean"][whole]
            return Labelled(counts, whole, float(share))
    return Labelled(0.0 * sets.iloc[0])
