"""Paired differences as tables: after against before, and arms against the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from xferlab.analysis.comparison import (
    CONFIDENCE,
    MIN_PATIENTS,
    MIN_REPETITIONS,
    MIN_TESTED,
    NUM_RESAMPLES,
    Comparison,
)
from xferlab.analysis.results import StudyResults
from xferlab.analysis.selection import ALL, NUM_DETAILED, EvaluationSet, metric_named
from xferlab.analysis.tables.model import (
    ABSENT,
    Group,
    Row,
    Table,
    file_name,
    interval,
    number,
    p_value,
    with_unit,
)
from xferlab.analysis.tables.notes import data_notes, incomplete_note, size_note
from xferlab.analysis.tuning import tuned_notes

_HEAD = ("Arm", "Pathology", "Paired repetitions", "Images", "Patients")
Found = tuple[Comparison, pd.DataFrame]
"""A comparison with what `compare` returned for it."""


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
        caption=difference_caption([one for one, _ in kept]),
        notes=(
            *_counts(frame),
            *(note for one, _ in kept for note in _tuned(results, one)),
            *size_note(results, _others([one for one, _ in kept]), _evaluated(comparison)),
            *incomplete_note(results, {comparison.first.stage, comparison.second.stage}),
            *data_notes(results, [comparison.section], results.cases),
        ),
        head=_HEAD,
        stub="Metric",
        columns=(*sides, "Difference", "95 % CI, repetitions", "p", "95 % CI, patients", "p (patients)"),
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
    """Returns both means, their difference, and each interval with its p-value, as text."""
    values = {key: float(value) for key, value in record.items() if isinstance(value, int | float)}
    metric = metric_named(str(record["metric"]))
    over_repetitions = interval(values["repetition_low"], values["repetition_high"], metric.unit)
    over_patients = interval(values["patient_low"], values["patient_high"], metric.unit)
    if values["num_repetitions"] < MIN_REPETITIONS:
        over_repetitions = f"n < {MIN_REPETITIONS} repetitions"
    if values["num_patients"] < MIN_PATIENTS:
        over_patients = f"n < {MIN_PATIENTS} patients"
    return (
        number(values["first_mean"], metric.unit),
        number(values["second_mean"], metric.unit),
        number(values["difference"], metric.unit, signed=True),
        over_repetitions,
        p_value(values["repetition_p_holm"]),
        over_patients,
        p_value(values["patient_p_holm"]),
    )


def difference_caption(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """Returns what intervals and p-values of differences are."""
    ratios = sorted({f"{one.test_to_train:.2f}" for one in comparisons if one.test_to_train > 0})
    corrected = (
        f", widened for overlapping training sets (Nadeau and Bengio 2003, test/train {' or '.join(ratios)})"
        if ratios
        else ""
    )
    percent = f"{100 * CONFIDENCE:g} %"
    return (
        "Paired by repetition and image; means over repetitions of the mean over images with both values.",
        f"CI, repetitions: {percent} t interval over the repetitions' mean differences{corrected}: "
        "what training again may change on these images.",
        f"CI, patients: {percent} percentile bootstrap of whole patients ({NUM_RESAMPLES} resamples): "
        "what other patients may change, given these trained models.",
        "p: paired t test over repetitions; p (patients): sign-flip permutation of patients' sums; "
        "each adjusted by Holm's method over this table's metrics, not over pathologies or arms.",
        f"{ABSENT}: not defined (differences that do not vary have no p).",
    )


def _counts(frame: pd.DataFrame) -> tuple[str, ...]:
    undefined, unpaired = int(frame["num_undefined"].sum()), int(frame["num_unpaired"].max())
    few = int(frame["num_repetitions"].max()) < MIN_TESTED
    return (
        *(
            [f"Fewer than {MIN_TESTED} paired repetitions: nothing is tested over repetitions."]
            if few
            else []
        ),
        *([f"{unpaired} values exist on one side only and are left out."] if unpaired else []),
        *(["Pairs with an undefined value are left out; the CSV counts them."] if undefined else []),
    )


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
