"""Metrics of a stage on an evaluation set: the paper's tables 3 to 6 and the metrics beyond them."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.reference import Reference
from xferlab.analysis.results import StudyResults, is_hold_out
from xferlab.analysis.selection import (
    ALL,
    NUM_DETAILED,
    EvaluationSet,
    metric_named,
    ordered_metrics,
    ordered_pathologies,
    sharing_arms,
)
from xferlab.analysis.tables.model import ABSENT, Group, Row, Table, file_name, number, with_unit
from xferlab.analysis.tables.notes import data_notes, incomplete_note
from xferlab.analysis.tuning import tuned_arms, tuned_notes
from xferlab.metrics.catalogue import Metric

HEAD = ("Pathology", "Arm", "Repetitions", "Images", "Patients")


@dataclass(frozen=True, eq=False)
class MetricsRequest:
    """What a metrics table is made of.

    Attributes:
        results: The study.
        aggregated: What `aggregate` returned.
        evaluated: Stage and evaluation set.
        reference: Published values to print beside, if any.
    """

    results: StudyResults
    aggregated: pd.DataFrame
    evaluated: EvaluationSet
    reference: Reference | None = None

    @property
    def rows(self) -> pd.DataFrame:
        """The aggregated rows of this set."""
        e, a = self.evaluated, self.aggregated
        return a[(a["stage"] == e.stage) & (a["section"] == e.section) & (a["part"] == e.part)]


def metrics_table(request: MetricsRequest, *, label: str, in_paper: bool) -> Table | None:
    """Returns the table of a stage on an evaluation set; None where there is nothing to print.

    Args:
        request: What it is made of.
        label: Number, such as `3` or `S1`.
        in_paper: Whether to print the metrics of the paper's tables, or the ones beyond it.
    """
    frame, evaluated = request.rows, request.evaluated
    # A metric that is undefined throughout (millimetres without spacing) has no column.
    defined = frame.groupby("metric")["mean"].count()
    metrics = ordered_metrics(defined[defined > 0].index, in_paper=in_paper)
    if not metrics:
        return None
    shown = list(ordered_pathologies(frame["pathology"])) if _by_pathology(request) else [ALL]
    groups = [group for pathology in shown for group in _groups(request, pathology, metrics)]
    data = frame[frame["metric"].isin([metric.name for metric in metrics])]
    suffix = "" if in_paper else "_beyond"
    beyond = "" if in_paper else ", metrics beyond the paper"
    return Table(
        name=f"table{label}_{evaluated.stage}_{_slug(evaluated)}{suffix}",
        title=f"Table {label}: stage {evaluated.stage} on {evaluated.name}{beyond}",
        caption=_caption(request, metrics),
        notes=_notes(request, defined, in_paper=in_paper),
        head=HEAD,
        stub="Statistic",
        columns=tuple(_heading(metric) for metric in metrics),
        groups=tuple(groups),
        data=_data(request, data),
    )


def _by_pathology(request: MetricsRequest) -> bool:
    """Whether there is a hold-out, and no more arms than a reader can follow pathology by pathology."""
    few = len(sharing_arms(request.results, request.evaluated)) <= NUM_DETAILED
    return is_hold_out(request.evaluated.part) and few


def _slug(evaluated: EvaluationSet) -> str:
    same = evaluated.section == evaluated.stage
    return file_name(evaluated.part if same else f"{evaluated.section}_{evaluated.part}")


def _heading(metric: Metric) -> str:
    return metric.name if metric.in_paper else with_unit(metric.label, metric.unit)


def _groups(request: MetricsRequest, pathology: str, metrics: tuple[Metric, ...]) -> list[Group]:
    frame = request.rows[request.rows["pathology"] == pathology]
    groups = []
    for arms in sharing_arms(request.results, request.evaluated):
        own = frame[frame["arm"] == arms[0]].set_index("metric")
        if len(own):
            groups.append(_group(own, pathology, _named(request, arms), metrics))
    published = _published_group(request, pathology, metrics)
    return groups + ([published] if published else [])


def _named(request: MetricsRequest, arms: tuple[str, ...]) -> str:
    tuned = tuned_arms(request.results.plan, request.evaluated.stage)
    return ", ".join(f"{arm} (tuned)" if arm in tuned else arm for arm in arms)


def _group(own: pd.DataFrame, pathology: str, arm: str, metrics: tuple[Metric, ...]) -> Group:
    first = own.iloc[0]
    few = first["num_patients"] < MIN_PATIENTS
    rows = [_row("Mean", own, "mean", metrics)]
    if few:
        rows.append(Row(f"SD: n < {MIN_PATIENTS} patients", tuple(ABSENT for _ in metrics)))
    else:
        alone = " (1 repetition)" if first["num_repetitions"] == 1 else ""
        rows.append(_row(f"SD over repetitions{alone}", own, "sd_repetitions", metrics))
        rows.append(_row("SD over images", own, "sd_images", metrics))
    undefined = [own["num_undefined"].get(metric.name, 0) for metric in metrics]
    if any(undefined):
        of = int(own["num_values"].max())
        rows.append(Row(f"undefined, of {of}", tuple(str(int(count)) for count in undefined)))
    return Group(
        (pathology, arm, _repetitions(first), _images(first), str(first["num_patients"])), tuple(rows)
    )


def _row(label: str, own: pd.DataFrame, column: str, metrics: tuple[Metric, ...]) -> Row:
    return Row(label, tuple(number(own[column].get(metric.name), metric.unit) for metric in metrics))


def _repetitions(first: pd.Series) -> str:
    planned = first["num_planned"]
    return (
        f"{first['num_repetitions']} of {int(planned)}"
        if not pd.isna(planned)
        else str(first["num_repetitions"])
    )


def _images(first: pd.Series) -> str:
    per = float(first["images_per_repetition"])
    return (
        str(first["num_images"])
        if per == first["num_images"]
        else f"{first['num_images']} ({per:.4g} per repetition)"
    )


def _published_group(request: MetricsRequest, pathology: str, metrics: tuple[Metric, ...]) -> Group | None:
    own = _published(request)
    own = own[own["pathology"] == pathology].set_index("metric")
    if request.reference is None or not own.index.intersection([m.name for m in metrics]).size:
        return None
    table = str(own["table"].iloc[0])
    rows = (
        _row("Mean", own, "mean", metrics),
        _row(request.reference.sd_of(table), own, "sd", metrics),
    )
    return Group((pathology, f"{request.reference.name}, Table {table}", "25", ABSENT, ABSENT), rows)


def _published(request: MetricsRequest) -> pd.DataFrame:
    e = request.evaluated
    if request.reference is None:
        return pd.DataFrame(columns=["table", "pathology", "metric", "mean", "sd"])
    return request.reference.rows(stage=e.stage, section=e.section, part=e.part)


def _caption(request: MetricsRequest, metrics: tuple[Metric, ...]) -> tuple[str, ...]:
    fixed = is_hold_out(request.evaluated.part)
    size = "the images' original" if request.evaluated.part.endswith("@original") else "evaluation"
    over_images = (
        "SD over images: sample SD over the images, equal in all repetitions, of an image's mean over them."
        if fixed
        else "SD over images: mean over repetitions of the sample SD over a repetition's own images."
    )
    counted = [metric.label.lower() for metric in metrics if metric.unit == "count"]
    units = sorted({metric.unit for metric in metrics if metric.unit in ("px", "mm")})
    return (
        "Each metric is computed per image, then averaged.",
        "Mean: mean over repetitions of a repetition's mean over images.",
        "SD over repetitions: sample SD (n − 1) of those means.",
        over_images,
        *([f"Distances are in {' and '.join(units)} at {size} size."] if units else []),
        *([f"Numbers per image: {', '.join(counted)}."] if counted else []),
        *(["The CSV has every pathology."] if not _by_pathology(request) else []),
    )


def _notes(request: MetricsRequest, defined: pd.Series, *, in_paper: bool) -> tuple[str, ...]:
    results, stage = request.results, request.evaluated.stage
    shared = any(len(arms) > 1 for arms in sharing_arms(results, request.evaluated))
    family = ordered_metrics(defined.index, in_paper=in_paper)
    empty = [with_unit(m.label, m.unit) for m in family if defined[m.name] == 0]
    shown = request.rows[request.rows["metric"].isin([m.name for m in family if defined[m.name]])]
    return (
        *(["Arms named together share the same trials."] if shared else []),
        *(
            ["Undefined values are left out of the means and counted."]
            if (shown["num_undefined"] > 0).any()
            else []
        ),
        *([f"Not printed, since undefined for every image: {', '.join(empty)}."] if empty else []),
        *tuned_notes(results, stage, results.arms),
        *incomplete_note(results, [stage]),
        *data_notes(results, [request.evaluated.section], results.cases),
        *(_paper_notes(request) if in_paper else ()),
    )


def _paper_notes(request: MetricsRequest) -> tuple[str, ...]:
    published = _published(request)
    if request.reference is None or not len(published):
        return ()
    table = str(published["table"].iloc[0])
    return (request.reference.caption(table), *request.reference.notes(table))


def _data(request: MetricsRequest, frame: pd.DataFrame) -> pd.DataFrame:
    data = frame.copy()
    data.insert(
        list(data.columns).index("metric") + 1, "unit", [metric_named(m).unit for m in data["metric"]]
    )
    few = data["num_patients"] < MIN_PATIENTS
    data.loc[few, ["sd_repetitions", "sd_images"]] = float("nan")
    data["deviation_withheld"] = [f"n < {MIN_PATIENTS} patients" if one else "" for one in few]
    published = _published(request)[["table", "pathology", "metric", "mean", "sd"]]
    names = {"table": "paper_table", "mean": "paper_mean", "sd": "paper_sd"}
    if not len(published):
        return data
    return data.merge(published.rename(columns=names), on=["pathology", "metric"], how="left")
