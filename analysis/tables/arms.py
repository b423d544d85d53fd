"""Every arm and pathology on one hold-out, a line each: what it reaches, its difference to the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from xferlab.analysis.aggregation import KEYS
from xferlab.analysis.comparison import (
    CONFIDENCE,
    MIN_PATIENTS,
    MIN_REPETITIONS,
    MIN_TESTED,
    NUM_RESAMPLES,
    holm,
)
from xferlab.analysis.results import StudyResults
from xferlab.analysis.selection import ALL, EvaluationSet, ordered_pathologies, sharing_arms
from xferlab.analysis.tables.differences import Found
from xferlab.analysis.tables.model import ABSENT, Group, Row, Table, file_name, interval, number, p_value
from xferlab.analysis.tables.notes import data_notes, incomplete_note, size_note
from xferlab.analysis.tables.training import few_labels, fitted, spread
from xferlab.analysis.tuning import tuned_arms, tuned_notes

MAIN, BORDER = "DICE", "HD95_px"
_HEAD = ("Arm", "Trained on patients (images)", "Repetitions")
_COLUMNS = (
    "Images (patients)",
    "Dice",
    "HD95 (px)",
    "Dice, difference",
    f"{100 * CONFIDENCE:g} % CI, repetitions",
    "p",
    f"{100 * CONFIDENCE:g} % CI, patients",
    "p (patients)",
)
_UNITS = ("repetition", "patient")


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
        """Returns the differences in Dice, p adjusted over the arms within each pathology."""
        frames = [
            frame[(frame["metric"] == MAIN) & frame["difference"].notna()].assign(arm=one.second.arm)
            for one, frame in self.found
        ]
        kept = [frame for frame in frames if len(frame)]
        if not kept:
            return pd.DataFrame(columns=["arm", "pathology"])
        joined = pd.concat(kept, ignore_index=True)
        for unit in _UNITS:
            adjusted = joined.groupby("pathology", sort=False)[f"{unit}_p"].transform(
                lambda p: pd.Series(holm(list(p)), index=p.index)
            )
            joined[f"{unit}_p_holm_arms"] = adjusted
        return joined


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
        caption=_caption(results.baseline),
        notes=(
            *_claims(differences),
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
        return (ABSENT,) * 5
    over = [interval(found[f"{unit}_low"], found[f"{unit}_high"]) for unit in _UNITS]
    if found["num_repetitions"] < MIN_REPETITIONS:
        over[0] = f"n < {MIN_REPETITIONS} repetitions"
    if found["num_patients"] < MIN_PATIENTS:
        over[1] = f"n < {MIN_PATIENTS} patients"
    p = [p_value(float(found[f"{unit}_p_holm_arms"])) for unit in _UNITS]
    return (number(found["difference"], signed=True), over[0], p[0], over[1], p[1])


def _caption(baseline: str) -> tuple[str, ...]:
    return (
        "Dice, HD95: mean over repetitions ± sample SD over repetitions (± SD over images, each averaged "
        "over repetitions).",
        "Trained on: training patients (images) of a repetition, mean and, where they differ, range.",
        f"Difference: to {baseline}, paired by repetition and image.",
        "CI, repetitions: t interval over repetitions, what training again may change; CI, patients: "
        f"bootstrap of whole patients ({NUM_RESAMPLES} resamples), what other patients may change, given "
        "these models.",
        "p: paired t test over repetitions; p (patients): sign-flip permutation; each adjusted by Holm's "
        "method over the arms of this table, pathology by pathology, and not over pathologies or tables. "
        "Intervals are not adjusted.",
    )


def _claims(differences: pd.DataFrame) -> tuple[str, ...]:
    """Returns what may not be concluded from these numbers."""
    if not len(differences):
        return ()
    overall = differences[differences["pathology"] == ALL]
    num, repetitions = len(overall), int(differences["num_repetitions"].max())
    few = (differences["num_patients"] < MIN_PATIENTS).any()
    return (
        *(
            [
                f"{repetitions} paired repetition{'' if repetitions == 1 else 's'}: no test over repetitions "
                f"(at least {MIN_TESTED}); whether an arm would win again, trained again, is not known."
            ]
            if repetitions < MIN_TESTED
            else []
        ),
        *(
            [
                f"Of {num} intervals about {num * (1 - CONFIDENCE):.2g} miss by chance alone: the "
                "best of many arms looks better than it is; one interval that excludes 0 proves nothing."
            ]
            if num > 1
            else []
        ),
        *([f"Pathologies of fewer than {MIN_PATIENTS} patients carry no claim."] if few else []),
        "An interval that holds 0 does not show that two arms are equal.",
    )


def _data(request: ArmsRequest, differences: pd.DataFrame) -> pd.DataFrame:
    rows = request.rows.copy()
    few = rows["num_patients"] < MIN_PATIENTS
    rows.loc[few, ["sd_repetitions", "sd_images"]] = float("nan")
    if len(differences):
        told = ["difference", *(f"{u}_{n}" for u in _UNITS for n in ("low", "high", "p", "p_holm_arms"))]
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
