"""Paired differences as tables: after against before, arms against the baseline, with objects and without."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from xferlab.analysis.comparison import Comparison, Contrast
from xferlab.analysis.contents import FAMILIES, HEADLINE, Contents
from xferlab.analysis.design import Side
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import (
    ALL,
    NUM_DETAILED,
    ChainPair,
    adaptation_pairs,
    detailed_arms,
    evaluation_sets,
)
from xferlab.analysis.tables.model import Column, Layout, Record, Table, file_name, heading_of, number
from xferlab.analysis.tables.notes import (
    INTERVAL,
    arm_names,
    data_notes,
    difference_cells,
    inference_caption,
    inference_notes,
    size_note,
)
from xferlab.analysis.tuning import tuned_notes
from xferlab.metrics.metric import Metric

_COUNTS = (("Paired repetitions", "num_repetitions"), ("Images", "num_images"), ("Patients", "num_patients"))
_DIFFERENCE = (("Difference", "difference"), (INTERVAL, "interval"), ("p", "p"))
_PAIRED = "Paired by repetition and image; means over repetitions of the mean over images with both values."


def _layout(head: Sequence[Column], stub: Column, first: str, second: str) -> Layout:
    means = ((first, "first_mean"), (second, "second_mean"))
    return Layout((*head, *_COUNTS), stub, (*means, *_DIFFERENCE))


def _texts(record: Record, unit: str) -> Record:
    """Returns both means, their difference, its interval and its p, as text."""
    means = {name: number(record[name], unit) for name in ("first_mean", "second_mean")}
    return {**means, **difference_cells(record, unit)}


def _data(contrasts: Iterable[Contrast]) -> pd.DataFrame:
    """Returns what was compared beside its figures, for a CSV."""
    frames = []
    for comparison, rows in contrasts:
        first, second = comparison.first, comparison.second
        names = {
            "first_arm": first.arm,
            "first_stage": first.stage,
            "second_arm": second.arm,
            "second_stage": second.stage,
            "section": second.evaluated.section,
            "part": second.evaluated.part,
        }
        frames.append(rows.assign(**names)[[*names, *rows.columns]])
    return pd.concat(frames, ignore_index=True)


# --- stages and arms ---------------------------------------------------------------------------------------


def before_after_tables(contents: Contents) -> Iterator[Table]:
    """Yields the differences between stages of a chain, all arms in a table; few arms by pathology."""
    yield from _of_pairs(contents, contents.pairs(), "")


def adaptation_tables(contents: Contents) -> Iterator[Table]:
    """Yields what stages cost where their ancestors were trained, on the test parts of these."""
    yield from _of_pairs(contents, contents.pairs(adaptation_pairs), "what adaptation costs: ")


def _of_pairs(contents: Contents, pairs: Iterable[tuple[str, ChainPair]], words: str) -> Iterator[Table]:
    by_pair: dict[ChainPair, list[Contrast]] = {}
    for arm, pair in pairs:
        before, after = (Side(arm, evaluated) for evaluated in pair.sets)
        by_pair.setdefault(pair, []).append(contents.compare(before, after))
    for pair, contrasts in by_pair.items():
        name = f"{pair.before}_to_{pair.after}"
        yield from _tables(contents, contrasts, name, f"{words}stage {pair.after} against {pair.before}")


def arms_against_baseline_tables(contents: Contents) -> Iterator[Table]:
    """Yields the differences between arms and the baseline, set by set, for all pathologies together."""
    baseline = contents.results.baseline
    for evaluated in contents.plain_sets:
        name = f"arms_against_{baseline}_{evaluated.stage}"
        title = f"arms against {baseline}, stage {evaluated.stage}"
        yield from _tables(contents, contents.against_baseline(evaluated), name, title)


def _tables(contents: Contents, contrasts: Sequence[Contrast], name: str, title: str) -> Iterator[Table]:
    """Yields the tables of both families of metrics; the CSV has every pathology."""
    for family in FAMILIES:
        kept = [
            contrast._replace(rows=rows)
            for contrast in contrasts
            if len(rows := _of_family(contents, contrast.rows, family))
        ]
        if kept:
            suffix = "" if family == HEADLINE else f"_{family}"
            evaluated = kept[0].comparison.evaluated
            stem = f"{name}_on_{file_name(evaluated.stem)}{suffix}"
            words = f"{title} on {evaluated.name}{FAMILIES[family]}"
            yield _table(contents, kept, (stem, words), family=family)


def _of_family(contents: Contents, rows: pd.DataFrame, family: str) -> pd.DataFrame:
    names = [metric.name for metric in contents.of_family(rows["metric"].unique(), family)]
    return rows[rows["metric"].isin(names) & rows["difference"].notna()]


def _table(
    contents: Contents, contrasts: Sequence[Contrast], words: tuple[str, str], *, family: str
) -> Table:
    name, title = words
    results, comparison, data = contents.results, contrasts[0].comparison, _data(contrasts)
    first, second, evaluated = comparison.first, comparison.second, comparison.evaluated
    arms = list(dict.fromkeys(data["second_arm"]))
    is_chain = first.arm == second.arm
    sides = (first.stage, second.stage) if is_chain else (first.arm, "arm")
    layout = _layout((("Arm", "arm"), ("Pathology", "pathology")), ("Metric", "metric"), *sides)
    by_pathology = is_chain and len(contrasts) <= NUM_DETAILED
    return layout.fill(
        Table(
            name=name,
            title=title,
            caption=(_PAIRED, *inference_caption(contrasts)),
            notes=(
                *inference_notes(data),
                *tuned_notes(results, second.stage, arms),
                *size_note(results, [] if is_chain else arms, evaluated),
                *data_notes(results, [first.stage, second.stage], [evaluated.section]),
            ),
            data=data,
            subject={"kind": "differences", "metrics": family, **vars(evaluated)},
        ),
        _records(contents, contrasts, by_pathology=by_pathology),
    )


def _records(contents: Contents, contrasts: Iterable[Contrast], *, by_pathology: bool) -> Iterator[Record]:
    for comparison, rows in contrasts:
        shown = rows if by_pathology else rows[rows["pathology"] == ALL]
        for pathology, part in shown.groupby("pathology", sort=False):
            labels = {"arm": comparison.second.arm, "pathology": pathology}
            labels |= {name: int(part[name].max()) for _, name in _COUNTS}
            for record in part.to_dict("records"):
                metric = contents.results.metrics.named(str(record["metric"]))
                heading = contents.heading(metric)
                yield {**labels, **_texts(record, metric.unit), "metric": heading}


# --- foreign objects ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ObjectCosts:
    """Every object, stage and arm on one set of cases.

    Attributes:
        contents: What is known of the study.
        section: Data section of the cases.
        part: Their part.
        metric: The metric that is shown.
        contrasts: With an object against without.
        arms: The arms that share the results of each contrast.
    """

    contents: Contents
    section: str
    part: str
    metric: Metric
    contrasts: Sequence[Contrast]
    arms: Sequence[tuple[str, ...]]

    def records(self) -> Iterator[tuple[Comparison, tuple[str, ...], Record]]:
        """Yields the differences in the metric that are known, pathology by pathology, with their arms."""
        for (comparison, rows), arms in zip(self.contrasts, self.arms, strict=True):
            known = rows[(rows["metric"] == self.metric.name) & rows["difference"].notna()]
            for record in known.to_dict("records"):
                yield comparison, arms, record


def object_costs(contents: Contents) -> Iterator[ObjectCosts]:
    """Yields sets of cases with all that is known of objects laid on them."""
    by_cases: dict[tuple[str, str], list[EvaluationSet]] = {}
    for evaluated in evaluation_sets(contents.results):
        if evaluated.object:
            by_cases.setdefault((evaluated.section, evaluated.plain.part), []).append(evaluated)
    for (section, part), sets in by_cases.items():
        groups = [
            (evaluated, arms)
            for evaluated in sets
            for arms in contents.results.arms_by_evaluations(evaluated, evaluated.plain)
        ]
        contrasts = [
            contents.compare(Side(arms[0], evaluated.plain), Side(arms[0], evaluated))
            for evaluated, arms in groups
        ]
        metrics = contents.results.metrics.main(
            name for contrast in contrasts for name in contrast.rows["metric"].unique()
        )
        if metrics:
            yield ObjectCosts(contents, section, part, metrics[0], contrasts, [arms for _, arms in groups])


def object_tables(contents: Contents) -> Iterator[Table]:
    """Yields what each kind of foreign object costs, a table for each set of cases."""
    shown = detailed_arms(contents.results)
    for costs in object_costs(contents):
        if any(set(arms) & set(shown) for _, arms, _ in costs.records()):
            yield _object_table(costs, shown)


def _object_table(costs: ObjectCosts, shown: Sequence[str]) -> Table:
    results = costs.contents.results
    known = [
        contrast._replace(rows=contrast.rows.dropna(subset="difference")) for contrast in costs.contrasts
    ]
    data = _data(contrast for contrast in known if len(contrast.rows))
    stages = sorted({comparison.second.stage for comparison, _ in costs.contrasts})
    arms = list(dict.fromkeys(arm for arms in costs.arms for arm in arms))
    head = (("Stage", "stage"), ("Arm", "arm"), ("Pathology", "pathology"))
    layout = _layout(head, ("Object", "object"), "without", "with the object")
    records = (
        {**record, **_texts(record, costs.metric.unit), "stage": comparison.second.stage}
        | {"arm": arm_names(results, arms), "object": comparison.evaluated.object}
        for comparison, arms, record in costs.records()
        if set(arms) & set(shown)
    )
    heading = heading_of(costs.metric)
    return layout.fill(
        Table(
            name=f"objects_{file_name(f'{costs.section}_{costs.part}')}",
            title=f"what each foreign object costs in {heading} on {costs.section}.{costs.part}",
            caption=(
                "Difference: with one object of a kind on every image minus without, on the same images.",
                _PAIRED,
                *inference_caption(costs.contrasts),
                f"Arms shown: {', '.join(shown)}. The CSV has every arm and metric.",
            ),
            notes=(
                *inference_notes(data[data["metric"] == costs.metric.name]),
                *dict.fromkeys(note for stage in stages for note in tuned_notes(results, stage, arms)),
                *data_notes(results, stages, [costs.section]),
            ),
            data=data,
            subject={"kind": "objects", "section": costs.section, "part": costs.part},
        ),
        records,
    )
