"""Ensembles of the repetitions beside the single networks, on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.contents import HEADLINE, Contents
from xferlab.analysis.division import divided_units
from xferlab.analysis.reprediction import MIN_NETWORKS, Ensemble
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import ALL
from xferlab.analysis.tables.model import ABSENT, Layout, Record, Table, file_name
from xferlab.analysis.tables.notes import data_notes
from xferlab.analysis.tables.repredicted import Lines, pathologies_of, repredicted_sets, where_others_are

_HEAD = (
    ("Pathology", "pathology"),
    ("Arm", "arm"),
    ("Networks per image", "networks"),
    ("Images", "images"),
    ("Patients", "patients"),
    ("Images left out", "left_out"),
)
_LINES = Lines("by", "single networks", "ensemble")


def ensembles_tables(contents: Contents) -> Iterator[Table]:
    """Yields a table for each set of images, without objects, on which some arm has several repetitions."""
    for evaluated in repredicted_sets(contents):
        if ensembles := list(contents.ensembles(evaluated)):
            yield _table(contents, evaluated, ensembles)


def _table(contents: Contents, evaluated: EvaluationSet, ensembles: Sequence[Ensemble]) -> Table:
    metrics, frame = contents.defined(_alone(_LINES.aggregated(contents, ensembles)), HEADLINE)
    layout = Layout(_HEAD, ("By", "by"), [(contents.heading(metric), metric.name) for metric in metrics])
    names = (name for ensemble in ensembles for name in ensemble.images["pathology"])
    records = _LINES.records(frame, metrics, ensembles, pathologies_of(contents, evaluated, names), _labels)
    return layout.fill(
        Table(
            name=f"ensembles_{evaluated.stage}_on_{file_name(evaluated.stem)}",
            title=f"ensembles of the repetitions, stage {evaluated.stage} on {evaluated.name}",
            caption=(*_caption(contents, evaluated), *where_others_are(contents, evaluated)),
            notes=data_notes(contents.results, [evaluated.stage], [evaluated.section]),
            data=frame.drop(columns="sd_images"),
            subject={"kind": "ensembles", **vars(evaluated)},
        ),
        records,
    )


def _caption(contents: Contents, evaluated: EvaluationSet) -> Iterator[str]:
    seen = "its patient" if divided_units(contents.results.plan) == "patients" else "it"
    yield (
        "Single networks: mean over repetitions of a repetition's value ± the sample SD of these values "
        f"(fewer than {MIN_PATIENTS} patients: no SD). Ensemble: the value of their mean probability."
    )
    yield (
        "An ensemble is one model: it has no deviation over repetitions, no interval, no test and no verdict."
    )
    yield (
        f"Each image is predicted only by networks that never saw {seen}; an image with fewer than "
        f"{MIN_NETWORKS} of these is left out of both lines and counted."
    )
    if not evaluated.is_hold_out:
        yield (
            "Networks per image: the repetitions that have it in their test part. It counts once for the "
            "ensemble, and once in each of these repetitions for the single networks."
        )


def _alone(frame: pd.DataFrame) -> pd.DataFrame:
    """The same where the ensemble, which is one model, has no repetitions."""
    of_repetitions = ["sd_repetitions", "num_repetitions", "num_planned"]
    is_one = frame["by"] == _LINES.after
    return frame.assign(**{name: frame[name].mask(is_one) for name in of_repetitions})


def _labels(ensemble: Ensemble, pathology: str, by_metric: pd.DataFrame) -> Record:
    single = by_metric["num_repetitions"].max()
    images = ensemble.images
    of_class = images if pathology == ALL else images[images["pathology"] == pathology]
    kept = of_class[of_class["networks"] >= MIN_NETWORKS]
    numbers = " to ".join(map(str, sorted({kept["networks"].min(), kept["networks"].max()})))
    return {
        "networks": numbers if len(kept) else ABSENT,
        "images": len(kept),
        "patients": kept["patient"].nunique(),
        "left_out": len(of_class) - len(kept),
        **({} if pd.isna(single) else {"by": f"{single:.0f} {_LINES.before}"}),
    }
