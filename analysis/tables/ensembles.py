"""Ensembles of the repetitions beside the single networks, on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from xferlab.analysis.aggregation import MIN_PATIENTS, aggregate
from xferlab.analysis.contents import HEADLINE, Contents
from xferlab.analysis.ensembles import MIN_NETWORKS, Ensemble
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import ALL, ordered_pathologies
from xferlab.analysis.tables.metrics import by_pathology
from xferlab.analysis.tables.model import ABSENT, Layout, Record, Table, file_name, number
from xferlab.analysis.tables.notes import data_notes, mean_and_deviation
from xferlab.metrics.metric import Metric

_HEAD = (
    ("Pathology", "pathology"),
    ("Arm", "arm"),
    ("Networks per image", "networks"),
    ("Images", "images"),
    ("Patients", "patients"),
    ("Images left out", "left_out"),
)
_SINGLE, _TOGETHER = "single networks", "ensemble"
PARTS = ("test", "hold_out")
"""Parts that no repetition trains or selects on where it is measured on them."""


def ensembles_tables(contents: Contents) -> Iterator[Table]:
    """Yields a table for each set of images, without objects, on which some arm has several repetitions."""
    for evaluated in contents.plain_sets:
        if evaluated.plain.part in PARTS and (ensembles := list(contents.ensembles(evaluated))):
            yield _table(contents, evaluated, ensembles)


def _table(contents: Contents, evaluated: EvaluationSet, ensembles: Sequence[Ensemble]) -> Table:
    nothing = contents.aggregated[:0].assign(by="")
    frame = pd.concat(list(_aggregated(contents, ensembles)) or [nothing], ignore_index=True)
    defined = frame.groupby("metric")["mean"].count()
    metrics = contents.of_family(defined[defined > 0].index, HEADLINE)
    frame = frame[frame["metric"].isin([metric.name for metric in metrics])]
    layout = Layout(_HEAD, ("By", "by"), [(contents.heading(metric), metric.name) for metric in metrics])
    return layout.fill(
        Table(
            name=f"ensembles_{evaluated.stage}_on_{file_name(evaluated.stem)}",
            title=f"ensembles of the repetitions, stage {evaluated.stage} on {evaluated.name}",
            caption=(*_caption(evaluated), *([] if by_pathology(contents, evaluated) else [_IN_CSV])),
            notes=data_notes(contents.results, [evaluated.stage], [evaluated.section]),
            data=_data(frame),
            subject={"kind": "ensembles", **vars(evaluated)},
        ),
        _records(contents, evaluated, ensembles, (frame, metrics)),
    )


_IN_CSV = "The CSV has every pathology."


def _caption(evaluated: EvaluationSet) -> Iterator[str]:
    yield (
        "Single networks: mean over repetitions of a repetition's value ± the sample SD of these values "
        f"(fewer than {MIN_PATIENTS} patients: no SD). Ensemble: the value of their mean probability."
    )
    yield (
        "An ensemble is one model: it has no deviation over repetitions, no interval, no test and no verdict."
    )
    yield (
        "Each image is predicted only by networks that never saw its patient; an image with fewer than "
        f"{MIN_NETWORKS} of these is left out of both lines and counted."
    )
    if not evaluated.is_hold_out:
        yield (
            "Networks per image: the repetitions that have it in their test part. It counts once for the "
            "ensemble, and once in each of these repetitions for the single networks."
        )


def _aggregated(contents: Contents, ensembles: Sequence[Ensemble]) -> Iterator[pd.DataFrame]:
    planned = contents.results.planned_evaluations()
    for ensemble in (each for each in ensembles if len(each.single)):
        for by, rows in ((_SINGLE, ensemble.single), (_TOGETHER, ensemble.together)):
            frame, _ = contents.divided(aggregate(rows, planned=planned, sets=contents.sets))
            yield frame.assign(by=by)


def _data(frame: pd.DataFrame) -> pd.DataFrame:
    withheld = (frame["num_patients"] < MIN_PATIENTS) | (frame["by"] == _TOGETHER)
    is_one = frame["by"] == _TOGETHER
    return frame.assign(
        sd_repetitions=frame["sd_repetitions"].mask(withheld),
        num_repetitions=frame["num_repetitions"].mask(is_one),
        num_planned=frame["num_planned"].mask(is_one),
    ).drop(columns="sd_images")


def _records(
    contents: Contents,
    evaluated: EvaluationSet,
    ensembles: Sequence[Ensemble],
    shown: tuple[pd.DataFrame, Sequence[Metric]],
) -> Iterator[Record]:
    frame, metrics = shown
    every = (ALL, *(name for ensemble in ensembles for name in ensemble.images["pathology"]))
    for pathology in ordered_pathologies(every) if by_pathology(contents, evaluated) else (ALL,):
        for ensemble in ensembles:
            labels = {"pathology": pathology, "arm": ", ".join(ensemble.arms), **_counts(ensemble, pathology)}
            rows = frame[(frame["arm"] == ensemble.arms[0]) & (frame["pathology"] == pathology)]
            for by in (_SINGLE, _TOGETHER):
                by_metric = rows[rows["by"] == by].set_index("metric")
                yield {
                    **labels,
                    "by": _by(ensemble, by),
                    **{metric.name: _text(by_metric, metric) for metric in metrics},
                }


def _counts(ensemble: Ensemble, pathology: str) -> Record:
    images = ensemble.images
    of_class = images if pathology == ALL else images[images["pathology"] == pathology]
    kept = of_class[of_class["networks"] >= MIN_NETWORKS]
    numbers = " to ".join(map(str, sorted({kept["networks"].min(), kept["networks"].max()})))
    return {
        "networks": numbers if len(kept) else ABSENT,
        "images": len(kept),
        "patients": kept["patient"].nunique(),
        "left_out": len(of_class) - len(kept),
    }


def _by(ensemble: Ensemble, by: str) -> str:
    number = ensemble.single["repetition"].nunique()
    return f"{by} of {number}" if by == _TOGETHER else f"{number} {by}"


def _text(by_metric: pd.DataFrame, metric: Metric) -> str:
    if metric.name not in by_metric.index:
        return ABSENT
    row = by_metric.loc[[metric.name]].iloc[0]
    if row["by"] == _TOGETHER or row["num_patients"] < MIN_PATIENTS:
        return number(row["mean"], metric.unit)
    return mean_and_deviation(row, metric.unit, "sd_repetitions")
