"""Every arm and pathology on one hold-out, a line each: what it reaches, its difference to the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from xferlab.analysis.aggregation import KEYS, MIN_PATIENTS
from xferlab.analysis.comparison import CONFIDENCE, holm
from xferlab.analysis.results import StudyResults
from xferlab.analysis.selection import ALL, EvaluationSet, ordered_pathologies, sharing_arms
from xferlab.analysis.tables.inference import (
    INTERVAL,
    Found,
    inference_caption,
    inference_notes,
    interval_cells,
)
from xferlab.analysis.tables.model import ABSENT, Group, Row, Table, file_name, number
from xferlab.analysis.tables.notes import data_notes, incomplete_note, size_note
from xferlab.analysis.tables.training import few_labels, fitted, spread
from xferlab.analysis.tuning import tuned_arms, tuned_notes

MAIN, BORDER = "DICE", "HD95_px"
_HEAD = ("Arm", "Trained on patients (images)", "Repetitions")
_COLUMNS = ("Images (patients)", "Dice", "HD95 (px)", "Dice, difference", INTERVAL, "p (Holm)")


@dataclass(frozen=True, eq=False)
class ArmsRequest:
    """All arms of one stage on one hold-out.

    Attributes:
        results: The study.
        aggregated: What `aggregate` returned.
        evaluated: Stage and hold-out.
        found: The arms compared with the baseline.
    """

    results: StudyResults
    aggregated: pd.DataFrame
    evaluated: EvaluationSet
    found: Sequence[Found]

    @property
    def rows(self) -> pd.DataFrame:
        """The aggregated rows of this set, of the two metrics that are printed."""
        e, a = self.evaluated, self.aggregated
        own = (a["stage"] == e.stage) & (a["section"] == e.section) & (a["part"] == e.part)
        return a[own & a["metric"].isin([MAIN, BORDER])]

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """Arms that share their results together, those without any too; empty where no arm has one."""
        known = set(self.rows["arm"])
        named = known | set(self.unmeasured) if known else known
        return [arms for arms in sharing_arms(self.results, self.evaluated) if arms[0] in named]

    @cached_property
    def unmeasured(self) -> Mapping[str, str]:
        """The arms of which no repetition is complete, with the states of their trials.

        An arm whose ancestors may have trained on these patients is none of them: the report lists it.
        """
        trials, known, where = self.results.trials, set(self.rows["arm"]), _where(self.evaluated)
        asked = {
            (one.arm, one.trial_id)
            for one in self.results.evaluations()
            if one[1:4] == where and one.arm not in known and not one.parent_may_have_seen
        }
        own = trials[[pair in asked for pair in zip(trials["arm"], trials["trial_id"], strict=True)]]
        return {str(arm): ", ".join(states.unique()) for arm, states in own.groupby("arm")["state"]}

    def repetitions(self, arms: tuple[str, ...]) -> str:
        """Returns `complete of planned` repetitions of arms that share them."""
        own = self.rows[self.rows["arm"] == arms[0]]
        done = own.iloc[0]["num_repetitions"] if len(own) else 0
        return f"{done} of {self.results.planned()[arms[0], self.evaluated.stage]}"

    def name(self, arms: tuple[str, ...]) -> str:
        """Returns names of arms with what a reader must know of each."""
        stage = self.evaluated.stage
        tuned, few = tuned_arms(self.results.plan, stage), few_labels(self.results, stage)
        marks = {arm: ["tuned"] if arm in tuned else [] for arm in arms}
        for arm in set(arms) & set(few):
            marks[arm].append(f"{few[arm] * 100:.2g} % of the labels")
        for arm in set(arms) & set(self.unmeasured):
            marks[arm].append(self.unmeasured[arm])
        return ", ".join(f"{arm} ({', '.join(marks[arm])})" if marks[arm] else arm for arm in arms)

    def differences(self) -> pd.DataFrame:
        """Returns the differences in Dice, p adjusted over the arms within each pathology.

        Arms that share all trials here are one arm to the adjustment.
        """
        frames = [
            frame[(frame["metric"] == MAIN) & frame["difference"].notna()].assign(arm=one.second.arm)
            for one, frame in self.found
        ]
        kept = [frame for frame in frames if len(frame)]
        if not kept:
            return pd.DataFrame(columns=["arm", "pathology"])
        joined = pd.concat(kept, ignore_index=True)
        first = {arm: arms[0] for arms in sharing_arms(self.results, self.evaluated) for arm in arms}
        joined["first"] = joined["arm"].map(first)
        lines = joined[joined["arm"] == joined["first"]]
        adjusted = lines.groupby("pathology", sort=False)["p"].transform(
            lambda p: pd.Series(holm(list(p)), index=p.index)
        )
        lines = lines[["first", "pathology"]].assign(p_holm_arms=adjusted)
        return joined.merge(lines, on=["first", "pathology"]).drop(columns="first")


def _where(evaluated: EvaluationSet) -> tuple[str, str, str]:
    return evaluated.stage, evaluated.section, evaluated.part


def arms_table(request: ArmsRequest, *, label: str) -> Table | None:
    """Returns the table of all arms on a hold-out; None where nothing is known of any."""
    groups, differences = request.groups, request.differences()
    if not groups:
        return None
    results, evaluated = request.results, request.evaluated
    where = f"{evaluated.section}_{evaluated.part}"
    return Table(
        name=f"table{label}_all_arms_{evaluated.stage}_on_{file_name(where)}",
        title=f"Table {label}: all arms, stage {evaluated.stage} on {evaluated.name}",
        caption=_caption(request),
        notes=(
            *(inference_notes(differences) if len(differences) else ()),
            *_chance(differences),
            *tuned_notes(results, evaluated.stage, results.arms),
            *size_note(results, results.arms, evaluated),
            *incomplete_note(results, [evaluated.stage]),
            *data_notes(results, [evaluated.section], results.cases),
        ),
        head=_HEAD,
        stub="Pathology",
        columns=_COLUMNS,
        groups=tuple(_group(request, arms, differences) for arms in groups),
        data=_data(request, differences),
    )


def _group(request: ArmsRequest, arms: tuple[str, ...], differences: pd.DataFrame) -> Group:
    name, done = request.name(arms), request.repetitions(arms)
    if arms[0] in request.unmeasured:
        return Group((name, ABSENT, done), (Row(ALL, (ABSENT,) * len(_COLUMNS)),))
    own = request.rows[request.rows["arm"] == arms[0]]
    fit = fitted(request.results, request.evaluated.stage, arms[0])
    trained = f"{spread(fit, 'patients')} ({spread(fit, 'images')})"
    apart = differences[differences["arm"] == arms[0]].set_index("pathology")
    rows = []
    for pathology in ordered_pathologies(own["pathology"]):
        by_metric = own[own["pathology"] == pathology].set_index("metric")
        found = apart.loc[pathology].to_dict() if pathology in apart.index else None
        rows.append(Row(pathology, _cells(by_metric, found)))
    return Group((name, trained, done), tuple(rows))


def _cells(by_metric: pd.DataFrame, found: Mapping[Any, Any] | None) -> tuple[str, ...]:
    counts = by_metric.iloc[0]
    reached = tuple(_reached(by_metric.loc[m] if m in by_metric.index else None, u) for m, u in _PRINTED)
    return (f"{counts['num_images']} ({counts['num_patients']})", *reached, *_difference(found))


_PRINTED = ((MAIN, ""), (BORDER, "px"))


def _reached(row: Any, unit: str) -> str:
    """Returns `mean ± SD over repetitions (± SD over images)`."""
    if row is None:
        return ABSENT
    if row["num_patients"] < MIN_PATIENTS:
        return f"{number(row['mean'], unit)} (n < {MIN_PATIENTS} patients)"
    spreads = (number(row[name], unit) for name in ("sd_repetitions", "sd_images"))
    return "{} ± {} (± {})".format(number(row["mean"], unit), *spreads)


def _difference(found: Mapping[Any, Any] | None) -> tuple[str, ...]:
    if found is None:
        return (ABSENT,) * 3
    return (number(found["difference"], signed=True), *interval_cells(found, p="p_holm_arms"))


def _caption(request: ArmsRequest) -> tuple[str, ...]:
    return (
        "Dice, HD95: mean over repetitions ± sample SD over repetitions (± SD over images, each averaged "
        "over repetitions).",
        "Trained on: training patients (images) of a repetition, mean and, where they differ, range.",
        f"Difference: to {request.results.baseline}, paired by repetition and image.",
        *inference_caption(request.found),
        "p (Holm): adjusted by Holm's method over the arms of this table, pathology by pathology, and not "
        "over pathologies or tables; intervals are not adjusted.",
    )


def _chance(differences: pd.DataFrame) -> tuple[str, ...]:
    num = int((differences["pathology"] == ALL).sum())
    missed = f"Of {num} intervals about {num * (1 - CONFIDENCE):.2g} miss by chance alone: the best of many "
    missed += "arms looks better than it is; one interval that excludes 0 proves nothing."
    return (missed,) if num > 1 else ()


def _data(request: ArmsRequest, differences: pd.DataFrame) -> pd.DataFrame:
    rows = request.rows.copy()
    few = rows["num_patients"] < MIN_PATIENTS
    rows.loc[few, ["sd_repetitions", "sd_images"]] = float("nan")
    if len(differences):
        told = ["difference", "low", "high", "p", "p_holm_arms", "df", "no_p", "counted_patients", "overlap"]
        paired = {"num_repetitions": "num_paired_repetitions"}
        wanted = differences[["arm", "pathology", "metric", "num_repetitions", *told]].rename(columns=paired)
        rows = rows.merge(wanted, on=["arm", "pathology", "metric"], how="left")
    fits = {arm: fitted(request.results, request.evaluated.stage, arm) for arm in rows["arm"].unique()}
    for what in ("patients", "images"):
        for how in ("mean", "min", "max"):
            values = {arm: getattr(fit[what], how)() for arm, fit in fits.items()}
            rows[f"train_{what}_{how}"] = rows["arm"].map(values)
    return pd.concat([rows, *_unmeasured_data(request)], ignore_index=True)


def _unmeasured_data(request: ArmsRequest) -> list[pd.DataFrame]:
    """Returns zero counts of the arms without a result, if any; what is no count is missing, not zero."""
    e, planned = request.evaluated, request.results.planned()
    counts = ("num_repetitions", "num_images", "num_patients", "num_values", "num_undefined")
    rows = [
        (arm, *_where(e), ALL, metric, planned[arm, e.stage], *[0] * len(counts))
        for arm in request.unmeasured
        for metric in (MAIN, BORDER)
    ]
    return [pd.DataFrame(rows, columns=[*KEYS, "num_planned", *counts])] if rows else []
