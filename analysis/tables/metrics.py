"""Metrics of a stage on an evaluation set: those of the headline, and the further ones in a second table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from xferlab.analysis.aggregation import MIN_PATIENTS, deviations_withheld
from xferlab.analysis.contents import FAMILIES, HEADLINE, Contents
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import ALL, NUM_DETAILED, of_metrics, ordered_pathologies
from xferlab.analysis.tables.model import ABSENT, Layout, Record, Table, file_name, heading_of, number
from xferlab.analysis.tables.notes import data_notes
from xferlab.analysis.tuning import tuned_arms, tuned_notes
from xferlab.metrics.metric import Metric

HEAD = (
    ("Pathology", "pathology"),
    ("Arm", "arm"),
    ("Repetitions", "repetitions"),
    ("Images", "images"),
    ("Patients", "patients"),
)


def metrics_tables(contents: Contents, *, hold_out: bool) -> Iterator[Table]:
    """Yields the tables of stages on hold-outs, or on all other evaluation sets without objects."""
    for evaluated in contents.plain_sets:
        if evaluated.is_hold_out == hold_out:
            tables = (_table(contents, evaluated, family) for family in FAMILIES)
            yield from (table for table in tables if table)


def _table(contents: Contents, evaluated: EvaluationSet, family: str) -> Table | None:
    every = evaluated.rows(contents.aggregated)
    # A metric that is undefined throughout (millimetres without spacing) has no column.
    metrics, frame = contents.defined(every, family)
    if not metrics:
        return None
    empty = contents.of_family(set(every["metric"]).difference(frame["metric"]), family)
    layout = Layout(HEAD, ("Statistic", "statistic"), [(contents.heading(m), m.name) for m in metrics])
    suffix = "" if family == HEADLINE else f"_{family}"
    return layout.fill(
        Table(
            name=f"{evaluated.stage}_{_short(evaluated)}{suffix}",
            title=f"stage {evaluated.stage} on {evaluated.name}{FAMILIES[family]}",
            caption=_caption(contents, evaluated, metrics),
            notes=(
                *_notes(contents, evaluated, frame, empty),
                *contents.paper_words(_published(contents, evaluated, metrics)),
            ),
            data=_data(contents, evaluated, frame),
            subject={"kind": "metrics", "metrics": family, **vars(evaluated)},
        ),
        _records(contents, evaluated, frame, metrics),
    )


def by_pathology(contents: Contents, evaluated: EvaluationSet) -> bool:
    """Returns whether it is a hold-out, and of no more arms than a reader can follow by pathology."""
    return evaluated.is_hold_out and len(contents.results.arms_by_evaluations(evaluated)) <= NUM_DETAILED


def _short(evaluated: EvaluationSet) -> str:
    same = evaluated.section == evaluated.stage
    return file_name(evaluated.part if same else evaluated.stem)


def _records(
    contents: Contents, evaluated: EvaluationSet, frame: pd.DataFrame, metrics: Sequence[Metric]
) -> Iterator[Record]:
    """Yields the lines of each pathology: those of each group of arms, then the paper's."""
    results, tuned = contents.results, tuned_arms(contents.results.plan, evaluated.stage)
    for pathology in ordered_pathologies(frame["pathology"]) if by_pathology(contents, evaluated) else (ALL,):
        rows = frame[frame["pathology"] == pathology]
        for arms in results.arms_by_evaluations(evaluated):
            by_metric = rows[rows["arm"] == arms[0]].set_index("metric")
            names = ", ".join(f"{arm} (tuned)" if arm in tuned else arm for arm in arms)
            if len(by_metric):
                labels = {"pathology": pathology, "arm": names, **_counts(by_metric.iloc[0])}
                yield from ({**labels, **line} for line in _lines(by_metric, metrics))
        yield from _published_lines(contents, evaluated, pathology, metrics)


def _counts(first: pd.Series) -> Record:
    planned, per = first["num_planned"], float(first["images_per_repetition"])
    each = "" if per == first["num_images"] else f" ({per:.4g} per repetition)"
    return {
        "repetitions": f"{first['num_repetitions']}{'' if pd.isna(planned) else f' of {int(planned)}'}",
        "images": f"{first['num_images']}{each}",
        "patients": first["num_patients"],
    }


def _lines(by_metric: pd.DataFrame, metrics: Sequence[Metric]) -> Iterator[Record]:
    first = by_metric.iloc[0]
    yield _line("Mean", by_metric["mean"], metrics)
    if first["num_patients"] < MIN_PATIENTS:
        dashes = {metric.name: ABSENT for metric in metrics}
        yield {"statistic": f"SD: n < {MIN_PATIENTS} patients", **dashes}
    else:
        alone = " (1 repetition)" if first["num_repetitions"] == 1 else ""
        yield _line(f"SD over repetitions{alone}", by_metric["sd_repetitions"], metrics)
        yield _line("SD over images", by_metric["sd_images"], metrics)
    undefined = {metric.name: int(by_metric["num_undefined"].get(metric.name, 0)) for metric in metrics}
    if any(undefined.values()):
        yield {"statistic": f"undefined, of {int(by_metric['num_values'].max())}", **undefined}


def _line(label: str, values: pd.Series, metrics: Sequence[Metric]) -> Record:
    texts = {metric.name: number(values.get(metric.name), metric.unit) for metric in metrics}
    return {"statistic": label, **texts}


def _published(contents: Contents, evaluated: EvaluationSet, metrics: Sequence[Metric]) -> pd.DataFrame:
    return of_metrics(contents.published(evaluated), metrics)


def _published_lines(
    contents: Contents, evaluated: EvaluationSet, pathology: str, metrics: Sequence[Metric]
) -> Iterator[Record]:
    published = _published(contents, evaluated, metrics)
    published = published[published["pathology"] == pathology]
    for line in contents.published_lines(published):
        labels = {
            "pathology": pathology,
            "arm": line.label,
            "repetitions": line.repetitions,
            "images": ABSENT,
            "patients": ABSENT,
        }
        means = _line("Mean", line.values["mean"], metrics)
        yield {**labels, **{name: line.marked(name, text) for name, text in means.items()}}
        if line.deviation:
            yield {**labels, **_line(line.deviation, line.values["sd"], metrics)}


def _caption(contents: Contents, evaluated: EvaluationSet, metrics: Sequence[Metric]) -> tuple[str, ...]:
    size = "the images' original" if evaluated.part.endswith("@original") else "evaluation"
    over_images = (
        "SD over images: sample SD over the images, equal in all repetitions, of an image's mean over them."
        if evaluated.is_hold_out
        else "SD over images: mean over repetitions of the sample SD over a repetition's own images."
    )
    counted = [metric.label.lower() for metric in metrics if metric.unit == "count"]
    units = sorted({metric.unit for metric in metrics if metric.unit in ("px", "mm")})
    of_sets = any(metric.computed_by for metric in metrics)
    return (
        "Each metric is computed per image, then averaged."
        if not of_sets
        else "Metrics with an SD over images are computed per image, then averaged; the others from all "
        "images of a repetition at once.",
        "Mean: mean over repetitions of a repetition's mean over images.",
        "SD over repetitions: sample SD (n − 1) of those means.",
        over_images,
        *([f"Distances are in {' and '.join(units)} at {size} size."] if units else []),
        *([f"Numbers per image: {', '.join(counted)}."] if counted else []),
        *([] if by_pathology(contents, evaluated) else ["The CSV has every pathology."]),
    )


def _notes(
    contents: Contents, evaluated: EvaluationSet, frame: pd.DataFrame, empty: Sequence[Metric]
) -> Iterator[str]:
    results = contents.results
    if any(len(arms) > 1 for arms in results.arms_by_evaluations(evaluated)):
        yield "Arms named together share the same trials."
    if (frame["num_undefined"] > 0).any():
        yield "Undefined values are left out of the means and counted."
    if empty:
        names = ", ".join(heading_of(metric) for metric in empty)
        yield f"Not printed, since undefined for every image: {names}."
    yield from tuned_notes(results, evaluated.stage, results.arms)
    yield from data_notes(results, [evaluated.stage], [evaluated.section])


def _data(contents: Contents, evaluated: EvaluationSet, frame: pd.DataFrame) -> pd.DataFrame:
    units = [contents.results.metrics.named(name).unit for name in frame["metric"]]
    data = deviations_withheld(frame)
    data.insert(list(data.columns).index("metric") + 1, "unit", units)
    few = data["num_patients"] < MIN_PATIENTS
    data["deviation_withheld"] = [f"n < {MIN_PATIENTS} patients" if withheld else "" for withheld in few]
    names = {"table": "paper_table", "mean": "paper_mean", "sd": "paper_sd"}
    published = contents.published(evaluated).rename(columns=names)
    if not len(published):
        return data
    if not published["arm"].any():
        columns = ["pathology", "metric", *names.values()]
        return data.merge(published[columns], on=["pathology", "metric"], how="left")
    # Several tables may have a value of the same arm and metric, and an arm need not be one of the study.
    return pd.concat([data, published[published["metric"].isin(frame["metric"])]], ignore_index=True)
