"""What a gate lets pass of the cases that a stage is measured on, and how it does on the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from xferlab.analysis.aggregation import aggregate, deviations_withheld
from xferlab.analysis.contents import HEADLINE, Contents
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import ALL
from xferlab.analysis.tables.model import Layout, Record, Table, file_name, number
from xferlab.analysis.tables.notes import arm_names, data_notes
from xferlab.metrics.metric import Metric

_HEAD = (("Arm", "arms"),)
_COUNTS = (("Images per repetition", "images"), ("Patients", "patients"))
LINES = ("passed", "did not pass", "all")


def gates_tables(contents: Contents) -> Iterator[Table]:
    """Yields a table for each evaluation set whose cases passed a gate or did not."""
    for evaluated in contents.plain_sets:
        passed, refused = (evaluated.rows(frame) for frame in (contents.cases, contents.refused))
        gated = contents.gated_arms(evaluated)
        if gated:
            both = pd.concat([passed, refused])
            frames = {
                line: contents.divided(
                    aggregate(frame[frame["arm"].isin(gated)], planned={}, sets=contents.sets)
                )[0]
                for line, frame in zip(LINES, (passed, refused, both), strict=True)
                if len(frame)
            }
            yield _table(contents, evaluated, frames, gated)


def _table(
    contents: Contents,
    evaluated: EvaluationSet,
    frames: Mapping[str, pd.DataFrame],
    gated: frozenset[str],
) -> Table:
    names = {name for frame in frames.values() for name in frame["metric"]}
    metrics = contents.of_family(names, HEADLINE)
    columns = [*_COUNTS, *((contents.heading(metric), metric.name) for metric in metrics)]
    data = pd.concat([frame.assign(passed=line) for line, frame in frames.items()], ignore_index=True)
    return Layout(_HEAD, ("Gate", "line"), columns).fill(
        Table(
            name=f"gate_{evaluated.stage}_on_{file_name(evaluated.stem)}",
            title=f"what the gate of stage {evaluated.stage} lets pass on {evaluated.name}",
            caption=(
                "The stage trains on images that its gate lets pass, and is measured on all.",
                "Means over repetitions, of the images that passed in the repetition, of those that did not, "
                "and of all.",
                "All other tables have the images that passed; a difference has those that passed in every "
                "repetition of both sides.",
            ),
            notes=data_notes(contents.results, [evaluated.stage], [evaluated.section]),
            data=deviations_withheld(data).drop(columns="num_planned"),
            subject={"kind": "gate", **vars(evaluated)},
        ),
        _records(contents, evaluated, frames, metrics, gated),
    )


def _records(
    contents: Contents,
    evaluated: EvaluationSet,
    frames: Mapping[str, pd.DataFrame],
    metrics: Sequence[Metric],
    gated: frozenset[str],
) -> Iterator[Record]:
    for arms in contents.results.arms_by_evaluations(evaluated):
        for line in LINES if arms[0] in gated else ():
            frame = frames.get(line, frames[LINES[-1]].iloc[:0])
            rows = frame[(frame["arm"] == arms[0]) & (frame["pathology"] == ALL)].set_index("metric")
            counts = {"images": "0", "patients": "0"}
            if len(rows):
                # Of repetitions in which all images pass, or none does, one line has no images.
                num = float(rows["num_values"].max()) / len(contents.done(arms[0], evaluated))
                counts = {"images": f"{num:.4g}", "patients": str(rows["num_patients"].max())}
            texts = {m.name: number(rows["mean"].get(m.name), m.unit) for m in metrics}
            yield {"arms": arm_names(contents.results, arms), "line": line, **counts, **texts}
