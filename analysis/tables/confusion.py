"""Confusion matrices: how often images of each class are called what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.contents import Contents
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.tables.model import ABSENT, Layout, Record, Table, file_name
from xferlab.analysis.tables.notes import arm_names, data_notes
from xferlab.analysis.told import Confusion, Told, mean_and_sd, told

_HEAD = (
    ("Arm", "arms"),
    ("Repetitions", "repetitions"),
    ("Images", "num_images"),
    ("Patients", "num_patients"),
)


def confusion_tables(contents: Contents) -> Iterator[Table]:
    """Yields a table for each evaluation set, without objects, of stages that tell classes.

    Arms that tell other classes have a table of their own.
    """
    for evaluated in contents.plain_sets:
        shown = told(contents, evaluated)
        for place, classes in enumerate(dict.fromkeys(each.classes for each in shown)):
            suffix = f"_{place + 1}" if place else ""
            yield _table(contents, evaluated, [each for each in shown if each.classes == classes], suffix)


def _table(contents: Contents, evaluated: EvaluationSet, shown: Sequence[Told], suffix: str) -> Table:
    called = shown[0].confusions()[0].called
    data = pd.DataFrame(
        [line for each in shown for matrix in each.confusions() for line in _data(each, matrix)]
    )
    layout = Layout(_HEAD, ("Class", "true"), [(f"Called {name}", name) for name in called])
    return layout.fill(
        Table(
            name=f"confusion_{evaluated.stage}_on_{file_name(evaluated.stem)}{suffix}",
            title=f"stage {evaluated.stage} on {evaluated.name}, what images of each class are called",
            caption=(
                "Images of a repetition, mean over repetitions; in parentheses their share of the images of "
                "the class, mean over the repetitions that have such images ± sample SD.",
                "Called: the most probable class or, where patches vote, the class of most of them."
                if not shown[0].confusions()[0].of
                else "Called so: where the probability of the class is above 0.5.",
            ),
            notes=data_notes(contents.results, [evaluated.stage], [evaluated.section]),
            data=data,
            subject={"kind": "confusion", **vars(evaluated)},
        ),
        (line for each in shown for matrix in each.confusions() for line in _records(contents, each, matrix)),
    )


def _records(contents: Contents, shown: Told, matrix: Confusion) -> Iterator[Record]:
    counts = matrix.counts.mean(axis=0)
    few = shown.num_patients < MIN_PATIENTS
    labels = {
        "arms": arm_names(contents.results, shown.arms),
        "repetitions": f"{shown.num_repetitions} of {shown.num_planned}",
        "num_images": shown.num_images,
        "num_patients": shown.num_patients,
    }
    for row, true in enumerate(matrix.true):
        share, deviation, _ = matrix.shares_of(row)
        deviation = np.full_like(deviation, np.nan) if few else deviation
        cells = map(_cell, counts[row], share, deviation)
        yield {**labels, "true": true, **dict(zip(matrix.called, cells, strict=True))}


def _cell(count: float, share: float, deviation: float) -> str:
    if np.isnan(share):
        return f"{count:.4g} ({ABSENT})"
    spread = "" if np.isnan(deviation) else f" ± {deviation:.3f}"
    return f"{count:.4g} ({share:.3f}{spread})"


def _data(shown: Told, matrix: Confusion) -> Iterator[Record]:
    count, count_sd, _ = mean_and_sd(matrix.counts)
    few = shown.num_patients < MIN_PATIENTS
    for row, true in enumerate(matrix.true):
        share, share_sd, num_with_class = matrix.shares_of(row)
        for column, called in enumerate(matrix.called):
            yield {
                "arm": ", ".join(shown.arms),
                "class": matrix.of,
                "true": true,
                "called": called,
                "count": count[row, column],
                "count_sd": np.nan if few else count_sd[row, column],
                "share": share[column],
                "share_sd": np.nan if few else share_sd[column],
                "num_with_class": num_with_class,
                "num_repetitions": shown.num_repetitions,
                "num_planned": shown.num_planned,
                "num_images": shown.num_images,
                "num_patients": shown.num_patients,
            }
