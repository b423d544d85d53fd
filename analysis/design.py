"""How the repetitions of a comparison depend on each other: shared training patients and shared donors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xferlab.analysis.results import EvaluationSet, StudyResults


@dataclass(frozen=True)
class Side:
    """One side of a comparison: an arm, and which of its stages is measured on which cases."""

    arm: str
    evaluated: EvaluationSet

    @property
    def stage(self) -> str:
        """The stage whose weights are measured."""
        return self.evaluated.stage


@dataclass(frozen=True)
class Design:
    """What the plan says of both sides of a comparison.

    Every stage counts that a side descends from and that is trained once per repetition. A donor is what
    all repetitions of a side descend from together: given weights, or a single training. A study has either
    one donor for all repetitions of a side, or one for each, which then is such a stage.

    Attributes:
        planned: Repetitions that both sides plan.
        share: Mean number of training patients of a repetition over the number of patients who train in any
            repetition; the largest of all stages. NaN where the plan does not count them.
        num_train: Training images of a repetition; the fewest of all stages.
        pools: Stage and number of patients who train in any of its repetitions.
        donor: Stage of the donor that both sides descend from; empty where there is none.
        donors_differ: Whether the sides descend from different donors, or only one of them from a donor.
    """

    planned: int
    share: float
    num_train: float
    pools: tuple[tuple[str, int], ...] = ()
    donor: str = ""
    donors_differ: bool = False


def design_of(results: StudyResults, first: Side, second: Side) -> Design:
    """Returns what the plan says of two sides."""
    lineages = [_lineage(results, side) for side in (first, second)]
    stages = [stage for trained, _ in lineages for stage in trained]
    planned, order = results.planned(), list(results.plan["stages"])
    pools = {(stage.name, stage.pool) for stage in stages if stage.pool}
    (_, donor), (_, other) = lineages
    return Design(
        planned=min(planned[side.arm, side.stage] for side in (first, second)),
        share=float(np.max([stage.share for stage in stages])),  # NaN if one is
        num_train=min(stage.num_train for stage in stages),
        pools=tuple(sorted(pools, key=lambda pool: (order.index(pool[0]), pool[1]))),
        donor=donor.stage if donor.ids == other.ids else "",
        donors_differ=donor.ids != other.ids,
    )


class _Stage(NamedTuple):
    name: str
    share: float
    num_train: float
    pool: int


class _Donor(NamedTuple):
    stage: str
    ids: frozenset[tuple[str, ...]]


def _lineage(results: StudyResults, side: Side) -> tuple[list[_Stage], _Donor]:
    """Returns the stages that are trained once per repetition, the side's own first, and the donor."""
    by_id, plan = results.trials_by_id, results.plan["arms"][side.arm]["stages"]
    chosen = results.trial_ids(side.arm, side.stage)
    trials = [trial for trial_id, trial in by_id.items() if trial_id in chosen]
    stages = []
    while True:
        name = trials[0]["stage"]
        pool = plan[name].get("pool_patients") or 0
        patients = np.mean([trial.get("train_patients", np.nan) for trial in trials])
        images = float(np.mean([trial["num_train"] for trial in trials]))
        stages.append(_Stage(name, float(patients) / pool if pool else np.nan, images, pool))
        origins = [_origin(trial) for trial in trials]
        parents = {origin[0] for origin in origins if len(origin) == 1 and origin[0] in by_id}
        if len(parents) < len(trials):  # not one parent for each repetition
            return stages, _Donor(plan[name]["starts_from"] if any(origins) else "", frozenset(origins))
        trials = [by_id[origin[0]] for origin in origins]


def _origin(trial: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns what a trial starts from: ids of trials (several: the best of them), a digest, or nothing."""
    if donor := trial.get("donor"):
        return (str(donor["sha256"] or donor["name"] or donor["path"]),)
    return tuple(trial["parents"])
