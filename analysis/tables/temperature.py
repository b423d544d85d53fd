"""Probabilities before and after temperature scaling, on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.contents import Contents
from xferlab.analysis.reprediction import OF_PROBABILITIES, Calibrated
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.tables.metrics import HEAD
from xferlab.analysis.tables.model import Layout, Record, Table, file_name
from xferlab.analysis.tables.notes import data_notes
from xferlab.analysis.tables.repredicted import Lines, pathologies_of, repredicted_sets, where_others_are
from xferlab.errors import listed
from xferlab.metrics.temperature import LARGEST, is_at_bound

_HEAD = (*HEAD, ("Temperature", "temperature"))
_LINES = Lines("scaling", "before", "after")
_SHOWN = 6


def temperature_tables(contents: Contents) -> Iterator[Table]:
    """Yields a table for each set of images, without objects, of stages that give probabilities."""
    for evaluated in repredicted_sets(contents):
        if calibrated := list(contents.calibrated(evaluated)):
            yield _table(contents, evaluated, calibrated)


def _table(contents: Contents, evaluated: EvaluationSet, calibrated: Sequence[Calibrated]) -> Table:
    frame = _LINES.aggregated(contents, calibrated)
    frame = frame[frame["metric"].isin(OF_PROBABILITIES)].reset_index(drop=True)
    metrics = contents.results.metrics.ordered(frame["metric"])
    layout = Layout(_HEAD, ("Scaling", "scaling"), [(contents.heading(m), m.name) for m in metrics])
    pathologies = pathologies_of(contents, evaluated, frame["pathology"])
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
                *where_others_are(contents, evaluated),
            ),
            notes=(
                *_notes(calibrated),
                *data_notes(contents.results, [evaluated.stage], [evaluated.section]),
            ),
            data=_data(frame, calibrated),
            subject={"kind": "temperature", **vars(evaluated)},
        ),
        _LINES.records(frame, metrics, calibrated, pathologies, _labels),
    )


def _notes(calibrated: Sequence[Calibrated]) -> Iterator[str]:
    """What a reader must know of the fits: images that took no part, and temperatures that are none."""
    of_each = [
        (f"{', '.join(arms.arms)}, repetition {number}", network)
        for arms in calibrated
        for number, network in sorted(arms.scaled.items())
    ]
    if seen := [f"{name} ({n.num_seen} of {n.num_validation})" for name, n in of_each if n.num_seen]:
        yield (
            "Not fitted to validation images whose patients a parent network may have learned from in "
            f"another repetition: {listed(seen, _SHOWN)}."
        )
    if absent := [name for name, network in of_each if not network.is_fitted]:
        yield f"No validation image to fit to, so in no number: {listed(absent, _SHOWN)}."
    if extreme := [name for name, network in of_each if is_at_bound(network.temperature)]:
        yield (
            f"At a bound ({1 / LARGEST:g} or {LARGEST:g}), so that this is no best fit: "
            f"{listed(extreme, _SHOWN)}."
        )


def _data(frame: pd.DataFrame, calibrated: Sequence[Calibrated]) -> pd.DataFrame:
    of_arms = {networks.arms[0]: networks.temperatures for networks in calibrated}
    return frame.assign(
        temperature_median=[of_arms[arm].median() for arm in frame["arm"]],
        temperature_min=[of_arms[arm].min() for arm in frame["arm"]],
        temperature_max=[of_arms[arm].max() for arm in frame["arm"]],
    )


def _labels(networks: Calibrated, _: str, by_metric: pd.DataFrame) -> Record | None:
    if not len(by_metric):
        return None
    first, each = by_metric.iloc[0], networks.temperatures
    numbers = f" ({each.min():.2f} to {each.max():.2f})" if len(each) > 1 else ""
    return {
        "repetitions": f"{first['num_repetitions']} of {first['num_planned']}",
        "images": first["num_images"],
        "patients": first["num_patients"],
        "temperature": f"{each.median():.2f}{numbers}",
    }
