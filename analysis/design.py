"""How the repetitions of a comparison depend on each other: shared training patients and shared donors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xferlab.analysis.results import StudyResults


@dataclass(frozen=True)
class Side:
    """One side of a comparison: the stage of an arm."""

    arm: str
    stage: str


@dataclass(frozen=True)
class Design:
    """What the plan says of both sides of a comparison.

    Every stage counts that a side descends from and that is trained once per repetition. A donor is what
    all repetitions of a side descend from together: given weights, or a single training.

    Attributes:
        planned: Repetitions that both sides plan.
        share: Mean number of training patients of a repetition over the number of patients who train in any
            repetition; the largest of all stages. NaN where the plan does not count them.
        num_train: Training images of a repetition; the fewest of all stages.
        pools: Stage and number of patients who train in any of its repetitions.
        donor: What both sides descend from in all repetitions; empty where there is none.
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
    stages = [stage for lineage in lineages for stage in lineage.stages]
    donors = [lineage.donor for lineage in lineages]
    planned, order = results.planned(), list(results.plan["stages"])
    pools = {(stage.name, stage.pool) for stage in stages if stage.pool}
    return Design(
        planned=min(planned[side.arm, side.stage] for side in (first, second)),
        share=float(np.max([stage.share for stage in stages])),  # NaN if one is
        num_train=min(stage.num_train for stage in stages),
        pools=tuple(sorted(pools, key=lambda pool: (order.index(pool[0]), pool[1]))),
        donor=lineages[0].donor_name if donors[0] == donors[1] else "",
        donors_differ=donors[0] != donors[1],
    )


class _Stage(NamedTuple):
    name: str
    share: float
    num_train: float
    pool: int


class _Lineage(NamedTuple):
    stages: list[_Stage]
    donor: tuple[str, ...]
    donor_name: str


def _lineage(results: StudyResults, side: Side) -> _Lineage:
    """Returns the stages that are trained once per repetition, the side's own first, and the donor."""
    by_id = results.trials_by_id
    chosen = (results.trials["arm"] == side.arm) & (results.trials["stage"] == side.stage)
    trials = [by_id[trial_id] for trial_id in results.trials.loc[chosen, "trial_id"]]
    stages = []
    while True:
        stages.append(_stage(results, side.arm, trials))
        origins = [_origin(trial) for trial in trials]
        if len(set(origins)) == 1:
            return _Lineage(stages, origins[0], _origin_name(trials[0], by_id))
        trials = [by_id[origin[0]] for origin in origins]


def _stage(results: StudyResults, arm: str, trials: list[Mapping[str, Any]]) -> _Stage:
    name = trials[0]["stage"]
    pool = results.plan["arms"][arm]["stages"][name].get("pool_patients") or 0
    patients = float(np.mean([trial.get("train_patients", np.nan) for trial in trials]))
    images = float(np.mean([trial["num_train"] for trial in trials]))
    return _Stage(name, patients / pool if pool else np.nan, images, pool)


def _origin(trial: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns what a trial starts from: ids of trials (several: the best of them), a digest, or nothing."""
    if donor := trial.get("donor"):
        return (str(donor["sha256"] or donor["name"] or donor["path"]),)
    return tuple(trial["parents"])


def _origin_name(trial: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]]) -> str:
    if donor := trial.get("donor"):
        return f"given weights of stage {donor['stage']}"
    if not trial["parents"]:
        return ""
    stage = by_id[trial["parents"][0]]["stage"]
    number = len(trial["parents"])
    return (
        f"a training of stage {stage}" if number == 1 else f"the best of {number} trainings of stage {stage}"
    )
