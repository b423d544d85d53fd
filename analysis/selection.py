"""Which results belong together: evaluation sets, chains of stages, arms, and their order on a page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pandas as pd

from xferlab.analysis.results import StudyResults, is_hold_out
from xferlab.metrics.catalogue import CATALOGUE, Metric

ALL = "all"
NUM_DETAILED = 3
_PATHOLOGIES = (ALL, "covid19", "normal", "pathological")
_BY_NAME = {metric.name: metric for metric in CATALOGUE}


@dataclass(frozen=True)
class EvaluationSet:
    """What a stage was measured on.

    Attributes:
        stage: The stage whose weights were measured.
        section: Data section of the cases.
        part: `train`, `validation`, `test` or `hold_out`, with `@variant` if there is one.
    """

    stage: str
    section: str
    part: str

    @property
    def name(self) -> str:
        """`section.part`."""
        return f"{self.section}.{self.part}"

    @property
    def plain(self) -> EvaluationSet:
        """The same cases as they are."""
        return replace(self, part=self.part.partition("@")[0])

    @property
    def object(self) -> str:
        """The kind of foreign object on its images; empty where there is none."""
        variant = self.part.partition("@")[2]
        return "" if variant == "original" else variant


@dataclass(frozen=True)
class ChainPair:
    """A stage and its nearest ancestor that were measured on the same hold-out.

    Attributes:
        before: The ancestor.
        after: The stage.
        section: Section of the hold-out.
        part: `hold_out`, or a variant of it.
    """

    before: str
    after: str
    section: str
    part: str = "hold_out"


def metric_named(name: str) -> Metric:
    """Returns the catalogue's entry, or a bare one for a metric of another version."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    return Metric(
        name=name,
        label=name,
        unit="",
        better=None,
        source="unknown to this version",
        in_paper=False,
        definition="Unknown to this version.",
        undefined="Unknown to this version.",
        function="",
    )


def ordered_metrics(names: Iterable[str], *, in_paper: bool | None = None) -> tuple[Metric, ...]:
    """Returns metrics in the catalogue's order, unknown ones last; with `in_paper` only such."""
    order = {metric.name: place for place, metric in enumerate(CATALOGUE)}
    found = [metric_named(name) for name in sorted(set(names), key=lambda n: (order.get(n, len(order)), n))]
    return tuple(metric for metric in found if in_paper is None or metric.in_paper == in_paper)


def ordered_pathologies(names: Iterable[str]) -> tuple[str, ...]:
    """Returns pathologies in the paper's order, others behind by name; `all` first."""
    order = {name: place for place, name in enumerate(_PATHOLOGIES)}
    return tuple(sorted(set(names), key=lambda name: (order.get(name, len(order)), name)))


def evaluation_sets(results: StudyResults) -> tuple[EvaluationSet, ...]:
    """Returns every planned (stage, section, part): own test parts first, in the order of the stages.

    Sets that an ancestor of another repetition may have trained on are left out.
    """
    found = {
        EvaluationSet(one.stage, one.section, one.part)
        for one in results.evaluations()
        if not one.parent_may_have_seen
    }
    stages = results.stages
    return tuple(sorted(found, key=lambda e: (is_hold_out(e.part), stages.index(e.stage), e.section, e.part)))


def sharing_arms(results: StudyResults, evaluated: EvaluationSet) -> tuple[tuple[str, ...], ...]:
    """Returns the arms measured on a set, grouped by those that share all evaluations of it."""
    groups: dict[frozenset[str], list[str]] = {}
    for arm in results.arms:
        ids = evaluation_ids(results, arm, evaluated)
        if ids:
            groups.setdefault(ids, []).append(arm)
    return tuple(tuple(arms) for arms in groups.values())


def evaluation_ids(results: StudyResults, arm: str, evaluated: EvaluationSet) -> frozenset[str]:
    """Returns the ids of an arm's evaluations on a set; equal ids are the same numbers."""
    e = evaluated
    return results.evaluation_ids(arm, stage=e.stage, section=e.section, part=e.part)


def detailed_arms(results: StudyResults) -> tuple[str, ...]:
    """Returns the arms that are shown in every detail: the baseline and the two that the study names next.

    Of more arms than a reader can follow, figures of single arms and rows by pathology are for these.
    """
    return results.arms[:NUM_DETAILED]


def seen_by_parents(results: StudyResults) -> tuple[str, ...]:
    """Returns the `arm/stage on section.part` whose patients an ancestor may have trained on."""
    found = {
        f"{one.arm}/{one.stage} on {one.section}.{one.part}"
        for one in results.evaluations()
        if one.parent_may_have_seen
    }
    return tuple(sorted(found))


def unseen(cases: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows whose patients no ancestor may have trained on: those that enter tables."""
    frame = cases[~cases["parent_may_have_seen"]]
    frame.attrs = {}  # pandas copies them deeply at every step: most of the time of a large report
    return frame


def chain_pairs(results: StudyResults, arm: str) -> tuple[ChainPair, ...]:
    """Returns the pairs of an arm: a stage and its nearest ancestor measured on the same hold-out."""
    sets = {
        (one.stage, one.section, one.part)
        for one in results.evaluations()
        if one.arm == arm and is_hold_out(one.part) and not one.parent_may_have_seen
    }
    pairs = []
    for stage in results.stages:
        for section, part in sorted(held for owner, *held in sets if owner == stage):
            ancestors = [a for a in _ancestors(results, arm, stage) if (a, section, part) in sets]
            pairs += [ChainPair(ancestors[0], stage, section, part)] if ancestors else []
    return tuple(pairs)


def main_pair(results: StudyResults) -> ChainPair | None:
    """Returns the pair that takes the paper's table numbers: the baseline's last, else another arm's."""
    for arm in results.arms:
        pairs = [pair for pair in chain_pairs(results, arm) if pair.part == "hold_out"]
        if pairs:
            return pairs[-1]
    return None


def _ancestors(results: StudyResults, arm: str, stage: str) -> list[str]:
    """Returns the stages that a stage starts from, the nearest first."""
    stages = results.plan["arms"].get(arm, {}).get("stages", {})
    found: list[str] = []
    parent = stages.get(stage, {}).get("starts_from")
    while parent and parent not in found:
        found.append(parent)
        parent = stages.get(parent, {}).get("starts_from")
    return found
