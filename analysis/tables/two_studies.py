"""Two studies beside each other: their settings, and what the arms reach that both have measured."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import ALL
from xferlab.analysis.tables.model import ABSENT, Layout, Record, Table, file_name, heading_of, number
from xferlab.analysis.tables.notes import (
    INTERVAL,
    data_notes,
    difference_cells,
    inference_caption,
    inference_notes,
    mean_and_deviations,
)
from xferlab.analysis.tuning import tuned_notes
from xferlab.analysis.two_studies import REASONS, TwoStudies, of_other
from xferlab.metrics.metric import Metric

_KEYS = ("arm", "pathology", "metric")
_VALUES = ("difference", "low", "high", "p", "df", "no_p")
_COLUMNS = (
    ("This study", "here"),
    ("Other study", "there"),
    ("Repetitions, images (patients)", "counts"),
    ("Difference", "difference"),
    (INTERVAL, "interval"),
    ("p", "p"),
)


def two_studies_tables(both: TwoStudies) -> Iterator[Table]:
    """Yields what differs in the plans, if anything, and a table for each set that both are measured on."""
    if both.differences:
        yield _settings_table(both)
    for evaluated, arms in both.common.items():
        yield _table(both, evaluated, arms)


def _settings_table(both: TwoStudies) -> Table:
    records = [
        {"setting": each.setting, "here": _text(each.here), "there": _text(each.there)}
        for each in both.differences
    ]
    layout = Layout((), ("Setting", "setting"), (("This study", "here"), ("Other study", "there")))
    return layout.fill(
        Table(
            name="two_studies_settings",
            title="settings in which the studies differ",
            caption=(
                "By the plans, of arms that both have; a dash: not there, or null.",
                "images: digest of a hold-out. arm/stage: what its first complete training was made of, with "
                "the digest of the images that it trained on. software: with which these ran.",
            ),
            notes=(),
            data=pd.DataFrame(records),
        ),
        records,
    )


def _text(value: Any) -> str:
    if value is None:
        return ABSENT
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _table(both: TwoStudies, evaluated: EvaluationSet, arms: Sequence[str]) -> Table:
    rows = evaluated.rows(both.contents.aggregated)
    metrics = both.contents.results.metrics.main(rows["metric"].unique())
    reasons = {arm: both.reason(arm, evaluated) for arm in arms}
    contrasts = {arm: both.contrast(arm, evaluated) for arm in arms if not reasons[arm]}
    frames = [contrast.rows.assign(arm=arm) for arm, contrast in contrasts.items()]
    known = pd.concat(frames) if frames else pd.DataFrame()
    missing = dict.fromkeys(reason for reason in reasons.values() if reason)
    layout = Layout((("Metric", "metric"),), ("Arm", "arm"), _COLUMNS)
    return layout.fill(
        Table(
            name=f"two_studies_{evaluated.stage}_on_{file_name(evaluated.stem)}",
            title=f"this study and the other, stage {evaluated.stage} on {evaluated.name}",
            caption=(
                "Mean over repetitions ± sample SD over repetitions (± SD over images).",
                "Difference: this study minus the other.",
                *(inference_caption(list(contrasts.values())) if contrasts else ()),
            ),
            notes=(
                *(f"{reason}: no interval, since {REASONS[reason]}." for reason in missing),
                *(inference_notes(known) if len(known) else ()),
                *dict.fromkeys(
                    note
                    for results in (both.here, both.there)
                    for note in tuned_notes(results, evaluated.stage, arms)
                ),
                *data_notes(both.contents.results, [evaluated.stage], [evaluated.section]),
            ),
            data=_data(rows, reasons, known),
        ),
        (_record(metric, arm, rows, (reasons[arm], known)) for metric in metrics for arm in arms),
    )


def _record(metric: Metric, arm: str, rows: pd.DataFrame, judged: tuple[str, pd.DataFrame]) -> Record:
    reason, known = judged
    of_metric = rows[(rows["metric"] == metric.name) & (rows["pathology"] == ALL)].set_index("arm")
    here, there = of_metric.reindex([arm, of_other(arm)]).to_dict("records")
    cells: dict[str, Any] = {
        "difference": number(here["mean"] - there["mean"], metric.unit, signed=True),
        "interval": ABSENT,
        "p": reason or ABSENT,
    }
    if len(known):
        paired = known[(known["arm"] == arm) & (known["metric"] == metric.name)]
        for row in paired[paired["pathology"] == ALL].to_dict("records"):
            cells |= difference_cells(row, metric.unit)
    return {
        "metric": heading_of(metric),
        "arm": arm,
        "here": _reached(here, metric),
        "there": _reached(there, metric),
        "counts": f"{_counts(here)} / {_counts(there)}",
        **cells,
    }


def _reached(side: Record, metric: Metric) -> str:
    return ABSENT if _is_absent(side) else mean_and_deviations(side, metric.unit)


def _is_absent(side: Record) -> bool:
    """Whether a study does not measure the metric."""
    return bool(pd.isna(side["num_repetitions"]))


def _counts(side: Record) -> str:
    if _is_absent(side):
        return ABSENT
    done, planned, images, patients = (
        int(side[f"num_{name}"]) for name in ("repetitions", "planned", "images", "patients")
    )
    return f"{done} of {planned}, {images} ({patients})"


def _data(rows: pd.DataFrame, reasons: Mapping[str, str], known: pd.DataFrame) -> pd.DataFrame:
    """Returns what both reach and, in lines of this study, the difference to the other, for all metrics.

    Without pairs it is that of both means, with the reason why it has neither interval nor p.
    """
    kept = rows[rows["arm"].isin([*reasons, *map(of_other, reasons)])]
    lines = [*kept[[*_KEYS, "mean"]].itertuples(index=False, name=None)]
    means = {tuple(key): mean for *key, mean in lines}
    apart = [
        (arm, *which, mean - means.get((of_other(arm), *which), math.nan), reasons[arm])
        for arm, *which, mean in lines
        if arm in reasons
    ]
    frames = [known[[*_KEYS, *_VALUES]]] if len(known) else []
    frames.append(pd.DataFrame(apart, columns=[*_KEYS, "difference", "no_p"]))
    return kept.merge(pd.concat(frames).drop_duplicates([*_KEYS]), on=[*_KEYS], how="left")
