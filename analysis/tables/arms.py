"""Every arm and pathology on one hold-out, a line each: what it reaches, its difference to the baseline."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from xferlab.analysis.aggregation import KEYS, deviations_withheld
from xferlab.analysis.comparison import Contrast
from xferlab.analysis.contents import Contents
from xferlab.analysis.estimates import CONFIDENCE, holm
from xferlab.analysis.results import EvaluationSet, StudyResults
from xferlab.analysis.selection import ALL, of_metrics, ordered_pathologies
from xferlab.analysis.tables.model import ABSENT, Layout, Record, Table, file_name, heading_of, with_unit
from xferlab.analysis.tables.notes import (
    INTERVAL,
    data_notes,
    difference_cells,
    inference_caption,
    inference_notes,
    mean_and_deviations,
    size_note,
)
from xferlab.analysis.tables.overview import few_labels, spread
from xferlab.analysis.tuning import tuned_arms, tuned_notes
from xferlab.metrics.metric import Metric

_HEAD = (("Arm", "arm"), ("Trained on patients (images)", "trained"), ("Repetitions", "repetitions"))


@dataclass(frozen=True, eq=False)
class AllArms:
    """All arms of one stage on one hold-out.

    Attributes:
        contents: What is known of the study.
        evaluated: Stage and hold-out.
        judged: The metric that comes first; empty for the first main one.
    """

    contents: Contents
    evaluated: EvaluationSet
    judged: str = ""

    @property
    def results(self) -> StudyResults:
        """The study."""
        return self.contents.results

    @cached_property
    def metrics(self) -> Sequence[Metric]:
        """The metrics that are printed; differences are in the first of them."""
        first = [metric for metric in self.results.metrics.ordered(self._names) if metric.name == self.judged]
        return (*first, *(metric for metric in self._main if metric not in first))

    @property
    def is_of_main(self) -> bool:
        """Whether differences are in the first of the main metrics."""
        return self.metrics[:1] == self._main[:1]

    @property
    def _main(self) -> tuple[Metric, ...]:
        return self.results.metrics.main(self._names)

    @property
    def _names(self) -> Collection[str]:
        return set(self.evaluated.rows(self.contents.aggregated)["metric"])

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The aggregated rows of these metrics."""
        return of_metrics(self.evaluated.rows(self.contents.aggregated), self.metrics)

    @property
    def contrasts(self) -> Sequence[Contrast]:
        """The arms compared with the baseline."""
        return self.contents.against_baseline(self.evaluated)

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """Arms that share their results together, those without any too; empty where no arm has one."""
        known = set(self.rows["arm"])
        named = known | set(self.unmeasured) if known else known
        return [arms for arms in self.results.arms_by_evaluations(self.evaluated) if arms[0] in named]

    @cached_property
    def unmeasured(self) -> Mapping[str, str]:
        """The arms of which no repetition is complete, with the states of their trials.

        An arm whose ancestors may have trained on these patients is not among them: the report lists it.
        """
        trials, known = self.results.trials, set(self.rows["arm"])
        planned = {
            (evaluation.arm, evaluation.trial_id)
            for evaluation in self.results.evaluations()
            if evaluation.evaluated == self.evaluated
            and evaluation.arm not in known
            and not evaluation.parent_may_have_seen
        }
        missing = trials[[pair in planned for pair in zip(trials["arm"], trials["trial_id"], strict=True)]]
        return {str(arm): ", ".join(states.unique()) for arm, states in missing.groupby("arm")["state"]}

    def repetitions(self, arms: tuple[str, ...]) -> str:
        """Returns `complete of planned` repetitions of arms that share them."""
        rows = self.rows[self.rows["arm"] == arms[0]]
        done = rows.iloc[0]["num_repetitions"] if len(rows) else 0
        return f"{done} of {len(self.results.evaluation_ids(arms[0], self.evaluated))}"

    def name(self, arms: tuple[str, ...]) -> str:
        """Returns names of arms with what a reader must know of each."""
        marks = {arm: [self.unmeasured[arm]] if arm in self.unmeasured else [] for arm in arms}
        for arm in set(arms) & set(few := few_labels(self.results, self.evaluated.stage)):
            marks[arm].insert(0, f"{few[arm] * 100:.2g} % of the labels")
        for arm in set(arms) & set(tuned_arms(self.results.plan, self.evaluated.stage)):
            marks[arm].insert(0, "tuned")
        return ", ".join(f"{arm} ({', '.join(marks[arm])})" if marks[arm] else arm for arm in arms)

    @cached_property
    def differences(self) -> pd.DataFrame:
        """The differences in the first metric, p adjusted over the arms within each pathology.

        Arms that share all trials here are one arm to the adjustment.
        """
        frames = [rows.assign(arm=comparison.second.arm) for comparison, rows in self.contrasts]
        known = pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)
        joined = known[(known["metric"] == self.metrics[0].name) & known["difference"].notna()].copy()
        if not len(joined):
            return joined
        groups = self.results.arms_by_evaluations(self.evaluated)
        joined["first"] = joined["arm"].map({arm: arms[0] for arms in groups for arm in arms})
        lines = joined[joined["arm"] == joined["first"]].set_index(["first", "pathology"])["p"]
        by_pathology = lines.groupby("pathology", sort=False)
        adjusted = by_pathology.transform(lambda p: holm(list(p))).rename("p_holm_arms")
        return joined.join(adjusted, on=["first", "pathology"]).drop(columns="first")


def compared_arms(contents: Contents, *, judged: str = "") -> Iterator[AllArms]:
    """Yields the hold-outs on which arms are compared with the baseline, by `judged` if it is given."""
    for evaluated in contents.plain_sets:
        arms = AllArms(contents, evaluated, judged)
        if evaluated.is_hold_out and arms.contrasts and arms.groups:
            yield arms


def arms_tables(contents: Contents) -> Iterator[Table]:
    """Yields every arm and pathology on each hold-out, where there are several arms."""
    yield from map(_table, compared_arms(contents))


def _table(arms: AllArms) -> Table:
    results, evaluated, main = arms.results, arms.evaluated, arms.metrics[0]
    reached = [(heading_of(metric), metric.name) for metric in arms.metrics]
    difference = [
        (with_unit(f"{main.label}, difference", main.unit), "difference"),
        (INTERVAL, "interval"),
        ("p (Holm)", "p"),
    ]
    layout = Layout(
        _HEAD, ("Pathology", "pathology"), [("Images (patients)", "counts"), *reached, *difference]
    )
    return layout.fill(
        Table(
            name=f"all_arms_{evaluated.stage}_on_{file_name(evaluated.stem)}",
            title=f"all arms, stage {evaluated.stage} on {evaluated.name}",
            caption=_caption(arms),
            notes=(
                *(inference_notes(arms.differences) if len(arms.differences) else ()),
                *_chance(arms.differences),
                *tuned_notes(results, evaluated.stage, results.arms),
                *size_note(results, results.arms, evaluated),
                *data_notes(results, [evaluated.stage], [evaluated.section]),
            ),
            data=_data(arms),
            subject={"kind": "all arms", **vars(evaluated)},
        ),
        (record for group in arms.groups for record in _records(arms, group)),
    )


def _records(arms: AllArms, group: tuple[str, ...]) -> Iterator[Record]:
    labels = {"arm": arms.name(group), "repetitions": arms.repetitions(group)}
    absent = dict.fromkeys(["counts", *(m.name for m in arms.metrics), "difference", "interval", "p"], ABSENT)
    if group[0] in arms.unmeasured:
        yield {**labels, "trained": ABSENT, "pathology": ALL, **absent}
        return
    of_group = arms.rows[arms.rows["arm"] == group[0]]
    trained = arms.results.training_counts.to_dict("index")[arms.evaluated.stage, group[0]]
    labels["trained"] = f"{spread(trained, 'patients')} ({spread(trained, 'images')})"
    differences = (
        arms.differences[arms.differences["arm"] == group[0]].set_index("pathology").to_dict("index")
    )
    for pathology in ordered_pathologies(of_group["pathology"]):
        rows = of_group[of_group["pathology"] == pathology].set_index("metric").to_dict("index")
        first = next(iter(rows.values()))
        counts = f"{first['num_images']} ({first['num_patients']})"
        reached = {m.name: mean_and_deviations(rows[m.name], m.unit) for m in arms.metrics if m.name in rows}
        line = {**labels, "pathology": pathology, **absent, "counts": counts, **reached}
        if pathology in differences:
            line |= difference_cells(differences[pathology], arms.metrics[0].unit, p="p_holm_arms")
        yield line


def _caption(arms: AllArms) -> tuple[str, ...]:
    headings = ", ".join(heading_of(metric) for metric in arms.metrics)
    return (
        f"{headings}: mean over repetitions ± sample SD over repetitions (± SD over images, each averaged "
        "over repetitions).",
        "Trained on: training patients (images) of a repetition, mean and, where they differ, range.",
        f"Difference: to {arms.results.baseline}, paired by repetition and image.",
        *inference_caption(arms.contrasts),
        "p (Holm): adjusted by Holm's method over the arms of this table, pathology by pathology, and not "
        "over pathologies or tables; intervals are not adjusted.",
    )


def _chance(differences: pd.DataFrame) -> tuple[str, ...]:
    num = int(differences.loc[differences["pathology"] == ALL, "low"].notna().sum())
    sentence = (
        f"Of {num} intervals about {num * (1 - CONFIDENCE):.2g} miss by chance alone: the best of many arms "
        "looks better than it is; one interval that excludes 0 proves nothing."
    )
    return (sentence,) if num > 1 else ()


def _data(arms: AllArms) -> pd.DataFrame:
    rows, differences = deviations_withheld(arms.rows), arms.differences
    if len(differences):
        values = [
            "difference",
            "low",
            "high",
            "p",
            "p_holm_arms",
            "df",
            "no_p",
            "counted_patients",
            "overlap",
        ]
        keys = ["arm", "pathology", "metric"]
        paired = differences.rename(columns={"num_repetitions": "num_paired_repetitions"})
        rows = rows.merge(paired[[*keys, "num_paired_repetitions", *values]], on=keys, how="left")
    trained = arms.results.training_counts.loc[arms.evaluated.stage].filter(regex="patients|images")
    rows = rows.join(trained.add_prefix("train_"), on="arm")
    return pd.concat([rows, *_unmeasured_data(arms)], ignore_index=True)


def _unmeasured_data(arms: AllArms) -> list[pd.DataFrame]:
    """Returns zero counts of the arms without a result, if any; all else of them is missing, not zero."""
    evaluated, ids = arms.evaluated, arms.results.evaluation_ids
    counts = ("num_repetitions", "num_images", "num_patients", "num_values", "num_undefined")
    zeros = [0] * len(counts)
    rows = [
        (arm, *vars(evaluated).values(), ALL, metric.name, len(ids(arm, evaluated)), *zeros)
        for arm in arms.unmeasured
        for metric in arms.metrics
    ]
    return [pd.DataFrame(rows, columns=[*KEYS, "num_planned", *counts])] if rows else []
