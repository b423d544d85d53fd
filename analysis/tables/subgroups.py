"""Metrics by subgroup: by the values of the columns that a study names, such as sex or site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from xferlab.analysis.aggregation import MIN_PATIENTS, aggregate, deviations_withheld
from xferlab.analysis.contents import HEADLINE, Contents
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import ALL
from xferlab.analysis.tables.model import ABSENT, Layout, Record, Table, file_name, number
from xferlab.analysis.tables.notes import arm_names, data_notes, mean_and_deviation, undefined
from xferlab.metrics.metric import Metric

UNKNOWN = "unknown"
"""The subgroup of images whose cell is empty, or whose section has no such column."""
_MARK = "="
"""Before a value while it is aggregated, so that none is mistaken for `all`."""


def subgroups_tables(contents: Contents) -> Iterator[Table]:
    """Yields a table for each column and each evaluation set, without objects, whose images have values."""
    columns: Mapping[str, Mapping[str, Sequence[str]]] = contents.results.plan.get("subgroups", {})
    for column, groups in columns.items():
        values = {digest: value for value, digests in groups.items() for digest in digests}
        frame = pd.concat([_by_value(contents, cases, values) for cases in (contents.cases, contents.apart)])
        for evaluated in contents.plain_sets:
            rows = evaluated.rows(frame)
            if marks := contents.results.marks(evaluated.stage, evaluated.section):
                is_shown = rows.groupby("of")["mean"].transform("count") > 0
                rows = rows[is_shown if len(marks) > 1 else rows["of"] == ALL]
            if set(rows.loc[~rows["is_all"], "value"]) - {UNKNOWN}:
                yield _table(contents, evaluated, column, rows)


def _by_value(contents: Contents, cases: pd.DataFrame, values: Mapping[str, str]) -> pd.DataFrame:
    """Returns means and deviations by `value` of the column, `all` among them, and by target in `of`."""
    names = cases["case"].astype(object).map(values).fillna(UNKNOWN)
    marked = cases.assign(pathology=_MARK + names.astype(object))
    frame = aggregate(marked, planned=contents.results.planned_evaluations(), sets=contents.sets)
    metrics = [contents.results.metrics.named(name) for name in frame["metric"]]
    apart = {metric.name for metric in contents.results.metrics.apart}
    # A metric of one target stands in the column of that over all of them.
    whole = [metric.whole if metric.name in apart else metric.name for metric in metrics]
    of = [metric.of if metric.name in apart else ALL for metric in metrics]
    marks = frame.pop("pathology")
    return frame.assign(
        metric=whole, of=of, value=[mark.removeprefix(_MARK) for mark in marks], is_all=marks == ALL
    )


def _table(contents: Contents, evaluated: EvaluationSet, column: str, frame: pd.DataFrame) -> Table:
    metrics, frame = contents.defined(frame, HEADLINE)
    targets = list(dict.fromkeys(sorted(frame["of"], key=lambda of: of != ALL)))
    head = [(column, "value"), ("Images", "images"), ("Patients", "patients")]
    head += [("Target", "of")] if len(targets) > 1 else []
    heading = contents.heading_of_targets if len(targets) > 1 else contents.heading
    layout = Layout(head, ("Arm", "arms"), [(heading(m), m.name) for m in metrics])
    return layout.fill(
        Table(
            name=f"subgroups_{evaluated.stage}_on_{file_name(evaluated.stem)}_{file_name(column)}",
            title=f"stage {evaluated.stage} on {evaluated.name}, by {column}",
            caption=(
                "Mean over repetitions of a repetition's value ± the sample SD of these values.",
                f"Fewer than {MIN_PATIENTS} patients: no deviation.",
                *([f"{UNKNOWN}: {column} is not given."] if UNKNOWN in set(frame["value"]) else []),
                "A description: nothing tests one group against another, and small groups differ by chance.",
            ),
            notes=data_notes(contents.results, [evaluated.stage], [evaluated.section]),
            data=_data(frame, column),
            subject={"kind": "subgroups", "column": column, **vars(evaluated)},
        ),
        _records(contents, evaluated, frame, (metrics, targets)),
    )


def _data(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    # A column of the data may be called as one of ours is.
    return deviations_withheld(frame).assign(column=column)


def _records(
    contents: Contents,
    evaluated: EvaluationSet,
    frame: pd.DataFrame,
    shown: tuple[Sequence[Metric], Sequence[str]],
) -> Iterator[Record]:
    metrics, targets = shown
    order = sorted(set(zip(frame["is_all"], frame["value"] == UNKNOWN, frame["value"], strict=True)))
    for is_all, _, value in order:
        of_value = frame[(frame["value"] == value) & (frame["is_all"] == is_all)]
        for target in targets:
            for arms in contents.results.arms_by_evaluations(evaluated):
                rows = of_value[(of_value["of"] == target) & (of_value["arm"] == arms[0])].set_index("metric")
                if len(rows):
                    labels = {
                        "value": "all images" if is_all else value,
                        "of": contents.results.metrics.label_of(target),
                        "arms": arm_names(contents.results, arms),
                    }
                    yield {**labels, **_counts(rows), **{m.name: _text(rows, m) for m in metrics}}


def _counts(rows: pd.DataFrame) -> Record:
    num, per = rows["num_images"].max(), float(rows["images_per_repetition"].max())
    each = "" if per == num else f" ({per:.4g} per repetition)"
    return {"images": f"{num}{each}", "patients": rows["num_patients"].max()}


def _text(rows: pd.DataFrame, metric: Metric) -> str:
    if metric.name not in rows.index:
        return ABSENT
    row = rows.loc[[metric.name]].iloc[0]
    few = row["num_patients"] < MIN_PATIENTS
    value = (
        number(row["mean"], metric.unit) if few else mean_and_deviation(row, metric.unit, "sd_repetitions")
    )
    return f"{value}{undefined(row, metric)}"
