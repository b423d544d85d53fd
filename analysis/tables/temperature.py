"""Probabilities before and after temperature scaling, on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from xferlab.analysis.aggregation import MIN_PATIENTS, aggregate
from xferlab.analysis.contents import Contents
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import ALL, ordered_pathologies
from xferlab.analysis.tables.ensembles import PARTS
from xferlab.analysis.tables.metrics import by_pathology
from xferlab.analysis.tables.model import ABSENT, Layout, Record, Table, file_name, number
from xferlab.analysis.tables.notes import data_notes, mean_and_deviation
from xferlab.analysis.temperature import OF_PROBABILITIES, Calibrated
from xferlab.metrics.metric import Metric

_HEAD = (
    ("Pathology", "pathology"),
    ("Arm", "arm"),
    ("Repetitions", "repetitions"),
    ("Images", "images"),
    ("Patients", "patients"),
    ("Temperature", "temperature"),
)
_BEFORE, _AFTER = "before", "after"


def temperature_tables(contents: Contents) -> Iterator[Table]:
    """Yields a table for each set of images, without objects, of stages that give probabilities."""
    for evaluated in contents.plain_sets:
        if evaluated.plain.part in PARTS and (calibrated := list(contents.calibrated(evaluated))):
            yield _table(contents, evaluated, calibrated)


def _table(contents: Contents, evaluated: EvaluationSet, calibrated: Sequence[Calibrated]) -> Table:
    frame = pd.concat(list(_aggregated(contents, calibrated)), ignore_index=True)
    metrics = contents.results.metrics.ordered(frame["metric"])
    layout = Layout(_HEAD, ("Scaling", "scaling"), [(contents.heading(m), m.name) for m in metrics])
    return layout.fill(
        Table(
            name=f"temperature_{evaluated.stage}_on_{file_name(evaluated.stem)}",
            title=f"temperature scaling, stage {evaluated.stage} on {evaluated.name}",
            caption=(
                "Temperature: one number for each network, fitted to its validation images by the least "
                "negative log likelihood (Guo et al. 2017), never to the images of this table. Above 1: "
                "probabilities were too extreme. Median over repetitions (lowest to highest).",
                "Mean over repetitions of a repetition's value ± the sample SD of these values (fewer than "
                f"{MIN_PATIENTS} patients: no SD). Masks and most probable classes stay as they are.",
                "A description: nothing tests after against before.",
                *([] if by_pathology(contents, evaluated) else ["The CSV has every pathology."]),
            ),
            notes=data_notes(contents.results, [evaluated.stage], [evaluated.section]),
            data=_data(frame, calibrated),
            subject={"kind": "temperature", **vars(evaluated)},
        ),
        _records(contents, evaluated, calibrated, (frame, metrics)),
    )


def _aggregated(contents: Contents, calibrated: Sequence[Calibrated]) -> Iterator[pd.DataFrame]:
    planned = contents.results.planned_evaluations()
    for networks in calibrated:
        for scaling, rows in ((_BEFORE, networks.before), (_AFTER, networks.after)):
            frame, _ = contents.divided(aggregate(rows, planned=planned, sets=contents.sets))
            yield frame[frame["metric"].isin(OF_PROBABILITIES)].assign(scaling=scaling)


def _data(frame: pd.DataFrame, calibrated: Sequence[Calibrated]) -> pd.DataFrame:
    few = frame["num_patients"] < MIN_PATIENTS
    of_arms = {networks.arms[0]: networks.temperatures for networks in calibrated}
    return frame.assign(
        sd_repetitions=frame["sd_repetitions"].mask(few),
        sd_images=frame["sd_images"].mask(few),
        temperature_median=[of_arms[arm].median() for arm in frame["arm"]],
        temperature_min=[of_arms[arm].min() for arm in frame["arm"]],
        temperature_max=[of_arms[arm].max() for arm in frame["arm"]],
    )


def _records(
    contents: Contents,
    evaluated: EvaluationSet,
    calibrated: Sequence[Calibrated],
    shown: tuple[pd.DataFrame, Sequence[Metric]],
) -> Iterator[Record]:
    frame, metrics = shown
    names = ordered_pathologies(frame["pathology"]) if by_pathology(contents, evaluated) else (ALL,)
    for pathology in names:
        for networks in calibrated:
            rows = frame[(frame["arm"] == networks.arms[0]) & (frame["pathology"] == pathology)]
            for scaling in (_BEFORE, _AFTER):
                by_metric = rows[rows["scaling"] == scaling].set_index("metric")
                if len(by_metric):
                    labels = {"pathology": pathology, "scaling": scaling, **_labels(networks, by_metric)}
                    yield {**labels, **{metric.name: _text(by_metric, metric) for metric in metrics}}


def _labels(networks: Calibrated, by_metric: pd.DataFrame) -> Record:
    first, each = by_metric.iloc[0], networks.temperatures
    numbers = f" ({each.min():.2f} to {each.max():.2f})" if len(each) > 1 else ""
    return {
        "arm": ", ".join(networks.arms),
        "repetitions": f"{first['num_repetitions']} of {first['num_planned']}",
        "images": first["num_images"],
        "patients": first["num_patients"],
        "temperature": f"{each.median():.2f}{numbers}",
    }


def _text(by_metric: pd.DataFrame, metric: Metric) -> str:
    if metric.name not in by_metric.index:
        return ABSENT
    row = by_metric.loc[[metric.name]].iloc[0]
    if row["num_patients"] < MIN_PATIENTS:
        return number(row["mean"], metric.unit)
    return mean_and_deviation(row, metric.unit, "sd_repetitions")
