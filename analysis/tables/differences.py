"""Paired differences as tables: after against before, and arms against the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from xferlab.analysis.comparison import Comparison
from xferlab.analysis.results import StudyResults
from xferlab.analysis.selection import ALL, NUM_DETAILED, EvaluationSet, metric_named
from xferlab.analysis.tables.inference import (
    INTERVAL,
    Found,
    inference_caption,
    inference_notes,
    interval_cells,
)
from xferlab.analysis.tables.model import Group, Row, Table, file_name, number, with_unit
from xferlab.analysis.tables.notes import data_notes, incomplete_note, size_note
from xferlab.analysis.tuning import tuned_notes

_HEAD = ("Arm", "Pathology", "Paired repetitions", "Images", "Patients")
DIFFERENCE = ("Difference", INTERVAL, "p")
"""Headings of the last three of `difference_cells`."""
PAIRED = "Paired by repetition and image; means over repetitions of the mean over images with both values."


def differences_table(
    results: StudyResults, found: Sequence[Found], *, label: str, in_paper: bool
) -> Table | None:
    """Returns differences on one evaluation set; None without pairs.

    Args:
        results: The study.
        found: After against before of some arms (of few, printed by pathology), or several arms against
            the baseline in one stage (printed for all pathologies together). The CSV has each.
        label: Number, such as `S3`.
        in_paper: Whether to print the metrics of the paper's tables, or those beyond them.
    """
    kept = [(one, _of_family(frame, in_paper=in_paper)) for one, frame in found]
    kept = [(one, frame) for one, frame in kept if len(frame)]
    if not kept:
        return None
    comparison, by_pathology = kept[0][0], len(kept) <= NUM_DETAILED
    frame = pd.concat([frame for _, frame in kept])
    suffix, beyond = ("", "") if in_paper else ("_beyond", ", metrics beyond the paper")
    slug, title, sides = _words(comparison)
    return Table(
        name=f"table{label}_{slug}{suffix}",
        title=f"Table {label}: {title} on {comparison.section}.{comparison.part}{beyond}",
        caption=(PAIRED, *inference_caption(kept)),
        notes=(
            *inference_notes(frame),
            *(note for one, _ in kept for note in _tuned(results, one)),
            *size_note(results, _others([one for one, _ in kept]), _evaluated(comparison)),
            *incomplete_note(results, {comparison.first.stage, comparison.second.stage}),
            *data_notes(results, [comparison.section], results.cases),
        ),
        head=_HEAD,
        stub="Metric",
        columns=(*sides, *DIFFERENCE),
        groups=tuple(group for one in kept for group in _groups(*one, by_pathology=by_pathology)),
        data=pd.concat([difference_data(*one) for one in kept], ignore_index=True),
    )


def _others(comparisons: Sequence[Comparison]) -> list[str]:
    return [one.second.arm for one in comparisons if one.second.arm != one.first.arm]


def _evaluated(comparison: Comparison) -> EvaluationSet:
    return EvaluationSet(comparison.second.stage, comparison.section, comparison.part)


def _tuned(results: StudyResults, comparison: Comparison) -> tuple[str, ...]:
    return tuned_notes(results, comparison.second.stage, [comparison.second.arm])


def _of_family(frame: pd.DataFrame, *, in_paper: bool) -> pd.DataFrame:
    names = [name for name in frame["metric"].unique() if metric_named(name).in_paper == in_paper]
    return frame[frame["metric"].isin(names) & frame["difference"].notna()]


def _words(comparison: Comparison) -> tuple[str, str, tuple[str, str]]:
    """Returns file stem, title and the headings of the two sides."""
    first, second = comparison.first, comparison.second
    evaluated = file_name(f"{comparison.section}_{comparison.part}")
    if first.arm == second.arm:
        slug = f"{first.stage}_to_{second.stage}_on_{evaluated}"
        title = f"stage {second.stage} against {first.stage}"
        return slug, title, (first.stage, second.stage)
    slug = f"arms_against_{first.arm}_{second.stage}_on_{evaluated}"
    return slug, f"arms against {first.arm}, stage {second.stage}", (first.arm, "arm")


def _groups(comparison: Comparison, frame: pd.DataFrame, *, by_pathology: bool) -> list[Group]:
    across_stages = comparison.first.arm == comparison.second.arm
    shown = frame if across_stages and by_pathology else frame[frame["pathology"] == ALL]
    groups = []
    for pathology, own in shown.groupby("pathology", sort=False):
        counts = (str(int(own[name].max())) for name in ("num_repetitions", "num_images", "num_patients"))
        rows = tuple(_row(dict(record)) for record in own.to_dict("records"))
        groups.append(Group((comparison.second.arm, str(pathology), *counts), rows))
    return groups


def _row(record: dict[Any, Any]) -> Row:
    metric = metric_named(str(record["metric"]))
    label = metric.name if metric.in_paper else with_unit(metric.label, metric.unit)
    return Row(label, difference_cells(record))


def difference_cells(record: Mapping[Any, Any]) -> tuple[str, ...]:
    """Returns both means, their difference, its interval and its p, as text."""
    unit = metric_named(str(record["metric"])).unit
    means = (number(record[name], unit) for name in ("first_mean", "second_mean"))
    return (*means, number(record["difference"], unit, signed=True), *interval_cells(record, unit))


def difference_data(comparison: Comparison, frame: pd.DataFrame) -> pd.DataFrame:
    """Returns what was compared beside its figures, for a CSV."""
    names = {
        "first_arm": comparison.first.arm,
        "first_stage": comparison.first.stage,
        "second_arm": comparison.second.arm,
        "second_stage": comparison.second.stage,
        "section": comparison.section,
        "part": comparison.part,
    }
    data = frame.copy()
    for place, (name, value) in enumerate(names.items()):
        data.insert(place, name, value)
    return data
