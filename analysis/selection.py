"""Which results belong together: evaluation sets, chains of stages, arms, and their order on a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from xferlab.analysis.results import EvaluationSet, StudyResults
from xferlab.metrics.metric import Metric

ALL = "all"
NUM_DETAILED = 3


@dataclass(frozen=True)
class ChainPair:
    """A stage and its nearest ancestor that were measured on the same cases.

    Attributes:
        before: The ancestor.
        after: The stage.
        section: Section of the cases.
        part: `hold_out`, `test`, or a variant of it.
    """

    before: str
    after: str
    section: str
    part: str = "hold_out"

    @property
    def sets(self) -> tuple[EvaluationSet, EvaluationSet]:
        """The cases as they were measured before and after."""
        return (
            EvaluationSet(self.before, self.section, self.part),
            EvaluationSet(self.after, self.section, self.part),
        )


class Stored(NamedTuple):
    """The arrays that a repetition stored: its number, its trial, and a row for each case."""

    repetition: int
    trial_id: str
    rows: pd.DataFrame


def first_stored(results: StudyResults, arm: str, *sets: EvaluationSet) -> Stored | None:
    """Returns what the first repetition that stored any stored of some sets of a stage; None without one.

    Where a split leaves sites out, the first complete repetition need not be measured on a set.
    """
    trials = results.trials[(results.trials["arm"] == arm) & (results.trials["state"] == "complete")]
    of_stage = trials[trials["stage"] == sets[0].stage].sort_values("repetition")
    for repetition, trial_id in zip(of_stage["repetition"], of_stage["trial_id"], strict=True):
        frames = [results.outputs(str(trial_id), arm=arm, evaluated=evaluated) for evaluated in sets]
        if stored := [frame for frame in frames if len(frame)]:
            return Stored(int(repetition), str(trial_id), pd.concat(stored, ignore_index=True))
    return None


def of_metrics(frame: pd.DataFrame, metrics: Iterable[Metric]) -> pd.DataFrame:
    """Returns the rows of some metrics."""
    return frame[frame["metric"].isin([metric.name for metric in metrics])]


def ordered_pathologies(names: Iterable[str]) -> tuple[str, ...]:
    """Returns pathologies by name, `all` first."""
    return tuple(sorted(set(names), key=lambda name: (name != ALL, name)))


def evaluation_sets(results: StudyResults) -> tuple[EvaluationSet, ...]:
    """Returns every planned (stage, section, part): own test parts first, in the order of the stages.

    Sets that an ancestor of another repetition may have trained on are left out.
    """
    sets = {
        evaluation.evaluated for evaluation in results.evaluations() if not evaluation.parent_may_have_seen
    }
    stages = results.stages
    return tuple(sorted(sets, key=lambda e: (e.is_hold_out, stages.index(e.stage), e.section, e.part)))


def detailed_arms(results: StudyResults) -> tuple[str, ...]:
    """Returns the arms that are shown in every detail: the baseline and the two that the study names next.

    Of more arms than a reader can follow, figures of single arms and rows by pathology are for these.
    """
    return results.arms[:NUM_DETAILED]


def seen_by_parents(results: StudyResults) -> tuple[str, ...]:
    """Returns the `arm/stage on section.part` whose patients an ancestor may have trained on, with counts."""
    seen, planned = Counter[str](), Counter[str]()
    for evaluation in results.evaluations():
        name = f"{evaluation.arm}/{evaluation.evaluated.stage} on {evaluation.evaluated.name}"
        planned[name] += 1
        seen[name] += evaluation.parent_may_have_seen
    return tuple(f"{name}: {seen[name]} of {planned[name]} repetitions" for name in sorted(+seen))


def unseen(cases: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows whose patients no ancestor may have trained on: those that enter tables."""
    frame = cases[~cases["parent_may_have_seen"]]
    frame.attrs = {}  # pandas copies them deeply at every step: most of the time of a large report
    return frame


def chain_pairs(results: StudyResults, arm: str) -> tuple[ChainPair, ...]:
    """Returns the pairs of an arm: a stage and its nearest ancestor measured on the same hold-out.

    Where several things are learnt, both learn the same.
    """
    return _pairs(results, arm, lambda evaluated: evaluated.is_hold_out)


def adaptation_pairs(results: StudyResults, arm: str) -> tuple[ChainPair, ...]:
    """Returns the pairs of an arm that show what a stage costs where an ancestor was trained.

    Both are measured on the test part of the ancestor.
    """
    stages = results.plan["arms"].get(arm, {}).get("stages", {})
    pairs = _pairs(results, arm, lambda evaluated: evaluated.plain.part == "test")
    return tuple(pair for pair in pairs if stages[pair.before]["data"] == pair.section)


def _pairs(
    results: StudyResults, arm: str, belongs: Callable[[EvaluationSet], bool]
) -> tuple[ChainPair, ...]:
    sets = {
        evaluation.evaluated
        for evaluation in results.evaluations()
        if evaluation.arm == arm and belongs(evaluation.evaluated) and not evaluation.parent_may_have_seen
    }
    pairs = []
    for stage in results.stages:
        _, *ancestors = lineage(results.plan, arm, stage)
        for section, part in sorted((e.section, e.part) for e in sets if e.stage == stage):
            measured = [
                before
                for before in ancestors
                if EvaluationSet(before, section, part) in sets
                and results.several(arm, before) == results.several(arm, stage)
            ]
            pairs += [ChainPair(measured[0], stage, section, part)] if measured else []
    return tuple(pairs)


def needs(plan: Mapping[str, Any], arm: str, stage: str) -> set[tuple[str, str]]:
    """Returns arm and name of a stage, and of all stages that it takes anything from, in any line."""
    needed, met = [(arm, stage)], set[tuple[str, str]]()
    while needed:
        arm, stage = node = needed.pop()
        entry = plan["arms"].get(arm, {}).get("stages", {}).get(stage)
        if entry is None or node in met:
            continue
        met.add(node)
        origins = filter(None, [entry.get("starts_from"), *entry.get("networks", {}).values()])
        producers = (entry[role]["from"].rpartition(".") for role in ("masks", "gate") if role in entry)
        needed += [(arm, origin) for origin in origins]
        needed += [(other or arm, producer) for other, _, producer in producers]
    return met


def lineage(plan: Mapping[str, Any], arm: str, stage: str) -> list[str]:
    """Returns a stage of an arm, and the stages that it starts from, the nearest first."""
    stages = plan["arms"].get(arm, {}).get("stages", {})
    names, name = list[str](), stage
    while name and name not in names:
        names.append(name)
        name = stages.get(name, {}).get("starts_from")
    return names
