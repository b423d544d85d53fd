"""Metrics of each structure of a stage that learns several, beside their mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from xferlab.analysis.aggregation import aggregate
from xferlab.analysis.contents import HEADLINE, Contents
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import ALL
from xferlab.analysis.tables.model import ABSENT, Layout, Record, Table, file_name
from xferlab.analysis.tables.notes import arm_names, data_notes, mean_and_deviation
from xferlab.metrics.metric import Metric

_HEAD = (("Structure", "structure"), ("Repetitions", "repetitions"), ("Images", "images"))
_MEAN = "mean of all"


def structures_tables(contents: Contents) -> Iterator[Table]:
    """Yields a table for each evaluation set, without objects, of stages that learn several structures."""
    if not len(contents.apart):
        return
    frame = aggregate(contents.apart, planned=contents.results.planned())
    for evaluated in contents.plain_sets:
        rows = evaluated.rows(frame)
        together = evaluated.rows(contents.aggregated)
        if len(rows):
            yield _table(contents, evaluated, pd.concat([_named(contents, rows), together.assign(of=_MEAN)]))


def _named(contents: Contents, rows: pd.DataFrame) -> pd.DataFrame:
    """Returns rows of single structures under the names of the metrics, with the structures in `of`."""
    metrics = [contents.results.metrics.named(name) for name in rows["metric"]]
    return rows.assign(metric=[metric.whole for metric in metrics], of=[metric.of for metric in metrics])


def _table(contents: Contents, evaluated: EvaluationSet, frame: pd.DataFrame) -> Table:
    defined = frame.groupby("metric")["mean"].count()
    metrics = contents.of_family(defined[defined > 0].index, HEADLINE)
    frame = frame[frame["metric"].isin([metric.name for metric in metrics])]
    layout = Layout(_HEAD, ("Arm", "arms"), [(contents.heading(m), m.name) for m in metrics])
    return layout.fill(
        Table(
            name=f"structures_{evaluated.stage}_on_{file_name(evaluated.stem)}",
            title=f"stage {evaluated.stage} on {evaluated.name}, structure by structure",
            caption=(
                "Mean over repetitions of a repetition's mean over images ± the sample SD of these means.",
                "Images: those of a repetition in which the structure's mask is known.",
                f"Last lines: {_MEAN} structures of an image, averaged likewise.",
            ),
            notes=data_notes(contents.results, [evaluated.stage], [evaluated.section]),
            data=frame,
            subject={"kind": "structures", **vars(evaluated)},
        ),
        _records(contents, evaluated, frame, metrics),
    )


def _records(
    contents: Contents, evaluated: EvaluationSet, frame: pd.DataFrame, metrics: Sequence[Metric]
) -> Iterator[Record]:
    frame = frame[frame["pathology"] == ALL]
    for structure in frame["of"].unique():
        for arms in contents.results.arms_by_evaluations(evaluated):
            rows = frame[(frame["of"] == structure) & (frame["arm"] == arms[0])].set_index("metric")
            if len(rows):
                texts = {metric.name: _text(rows, metric) for metric in metrics}
                counts = _counts(rows.iloc[0])
                yield {"structure": structure, "arms": arm_names(contents.results, arms), **counts, **texts}


def _counts(row: pd.Series) -> Record:
    known = (row["num_values"] - row["num_undefined"]) / row["num_repetitions"]
    return {"repetitions": f"{row['num_repetitions']} of {row['num_planned']}", "images": f"{known:.4g}"}


def _text(rows: pd.DataFrame, metric: Metric) -> str:
    found = [row for name, row in rows.iterrows() if name == metric.name]
    return mean_and_deviation(found[0], metric.unit, "sd_repetitions") if found else ABSENT
