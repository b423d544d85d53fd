"""Metrics of each structure or class of a stage that learns several, beside those over all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from xferlab.analysis.aggregation import MIN_PATIENTS, deviations_withheld
from xferlab.analysis.contents import FAMILIES, FURTHER, HEADLINE, Contents
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import ALL, of_metrics
from xferlab.analysis.tables.model import ABSENT, Layout, Record, Table, file_name, number
from xferlab.analysis.tables.notes import arm_names, data_notes, mean_and_deviation, published_cell, undefined
from xferlab.metrics.metric import Metric

_MEAN = "mean of all"


class _Kind(NamedTuple):
    """What single targets are.

    Attributes:
        name: Of one of them.
        several: Stem of the names of the tables.
        all: Label of the lines over all of them.
        caption: What the numbers are.
        whole: What the lines over all of them are.
        of_sets: Whether their metrics are those of sets of cases.
    """

    name: str
    several: str
    all: str
    caption: tuple[str, ...]
    whole: str
    of_sets: bool


_STRUCTURES = _Kind(
    "structure",
    "structures",
    _MEAN,
    (
        "Mean over repetitions of a repetition's mean over images ± the sample SD of these means (± SD over "
        "images).",
        "Images: those of a repetition in which the structure's mask is known.",
    ),
    f"Last lines: {_MEAN} structures of an image, averaged likewise.",
    of_sets=False,
)
_CLASSES = _Kind(
    "class",
    "classes",
    "all classes",
    (
        "Each class against the rest. Mean over repetitions of the value of a repetition's images ± the "
        "sample SD of these values.",
        "Images: those of a repetition, of the class and others.",
        "Undefined: share of the repetitions' images whose repetition has no value; the means leave it out.",
    ),
    "Last lines: over all classes, as in the other tables.",
    of_sets=True,
)


def structures_tables(contents: Contents) -> Iterator[Table]:
    """Yields a table for each evaluation set, without objects, of stages that learn several structures."""
    yield from _tables(contents, _STRUCTURES, (HEADLINE,))


def classes_tables(contents: Contents) -> Iterator[Table]:
    """Yields tables for each evaluation set, without objects, of stages that tell classes."""
    yield from _tables(contents, _CLASSES, (HEADLINE, FURTHER))


def _tables(contents: Contents, kind: _Kind, families: Sequence[str]) -> Iterator[Table]:
    single = {
        metric.name for metric in contents.results.metrics.apart if kind.of_sets == bool(metric.computed_by)
    }
    frame = contents.of_targets[contents.of_targets["metric"].isin(single)]
    for evaluated in contents.plain_sets:
        rows = _named(contents, evaluated.rows(frame))
        together = evaluated.rows(contents.aggregated).assign(of=kind.all)
        together = together[together["metric"].isin(rows["metric"])]
        if marks := contents.results.marks(evaluated.stage, evaluated.section):
            rows = rows[rows.groupby("of")["mean"].transform("count") > 0]
            together = together if len(marks) > 1 else together.head(0)
        for family in families if len(rows) else ():
            yield from _table(contents, evaluated, pd.concat([rows, together]), (kind, family))


def _named(contents: Contents, rows: pd.DataFrame) -> pd.DataFrame:
    """Returns rows of single targets under the names of the metrics, with the targets in `of`."""
    metrics = [contents.results.metrics.named(name) for name in rows["metric"]]
    return rows.assign(metric=[metric.whole for metric in metrics], of=[metric.of for metric in metrics])


def _table(
    contents: Contents, evaluated: EvaluationSet, frame: pd.DataFrame, shown: tuple[_Kind, str]
) -> Iterator[Table]:
    """Yields the table of a family of metrics, where one of them is defined."""
    kind, family = shown
    metrics, frame = contents.defined(frame, family)
    if not metrics:
        return
    head = ((kind.name.capitalize(), "of"), ("Repetitions", "repetitions"), ("Images", "images"))
    layout = Layout(head, ("Arm", "arms"), [(contents.heading_of_targets(m), m.name) for m in metrics])
    suffix = "" if family == HEADLINE else f"_{family}"
    words = f"{kind.name} by {kind.name}{FAMILIES[family]}"
    yield layout.fill(
        Table(
            name=f"{kind.several}_{evaluated.stage}_on_{file_name(evaluated.stem)}{suffix}",
            title=f"stage {evaluated.stage} on {evaluated.name}, {words}",
            caption=tuple(_caption(contents, kind, frame)),
            notes=(
                *data_notes(contents.results, [evaluated.stage], [evaluated.section]),
                *contents.paper_words(_published(contents, evaluated, metrics)),
            ),
            data=deviations_withheld(frame),
            subject={"kind": kind.several, "metrics": family, **vars(evaluated)},
        ),
        _records(contents, evaluated, frame, metrics),
    )


def _records(
    contents: Contents, evaluated: EvaluationSet, frame: pd.DataFrame, metrics: Sequence[Metric]
) -> Iterator[Record]:
    frame = frame[frame["pathology"] == ALL]
    for target in frame["of"].unique():
        for arms in contents.results.arms_by_evaluations(evaluated):
            rows = frame[(frame["of"] == target) & (frame["arm"] == arms[0])].set_index("metric")
            if len(rows):
                texts = {metric.name: _text(rows, metric) for metric in metrics}
                counts = _counts(rows.iloc[0])
                of = contents.results.metrics.label_of(str(target))
                yield {"of": of, "arms": arm_names(contents.results, arms), **counts, **texts}
        yield from _published_lines(contents, evaluated, str(target), metrics)


def _caption(contents: Contents, kind: _Kind, frame: pd.DataFrame) -> Iterator[str]:
    yield from kind.caption
    if kind.all in set(frame["of"]):
        yield kind.whole
        if any(contents.results.metrics.label_of(name) != name for name in frame["of"].unique()):
            yield "Lines of left and right together are no part of that mean."


def _published(contents: Contents, evaluated: EvaluationSet, metrics: Sequence[Metric]) -> pd.DataFrame:
    """What a paper says of single targets."""
    rows = of_metrics(_named(contents, contents.published(evaluated)), metrics)
    return rows[(rows["pathology"] == ALL) & (rows["of"] != "")]


def _published_lines(
    contents: Contents, evaluated: EvaluationSet, target: str, metrics: Sequence[Metric]
) -> Iterator[Record]:
    rows = _published(contents, evaluated, metrics)
    for line in contents.published_lines(rows[rows["of"] == target]):
        yield {
            "of": contents.results.metrics.label_of(target),
            "arms": line.label_of_cells,
            "repetitions": line.repetitions,
            "images": ABSENT,
            **{metric.name: published_cell(line, metric) for metric in metrics},
        }


def _counts(row: pd.Series) -> Record:
    known = (row["num_values"] - row["num_undefined"]) / row["num_repetitions"]
    return {"repetitions": f"{row['num_repetitions']} of {row['num_planned']}", "images": f"{known:.4g}"}


def _text(rows: pd.DataFrame, metric: Metric) -> str:
    if metric.name not in rows.index:
        return ABSENT
    row = rows.loc[[metric.name]].iloc[0]
    alone = pd.isna(row["sd_images"]) or row["num_patients"] < MIN_PATIENTS
    over_images = "" if alone else f" (± {number(row['sd_images'], metric.unit)})"
    return f"{mean_and_deviation(row, metric.unit, 'sd_repetitions')}{over_images}{undefined(row, metric)}"
