"""How the repetitions of a comparison depend on each other: shared training patients and shared donors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from xferlab.analysis.division import leaves_sites_out
from xferlab.analysis.results import EvaluationSet, StudyResults, origin_of

Origin = tuple[str, ...]
"""What a trial starts from."""


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
            repetition; the largest of all stages.
        num_train: Training images of a repetition; the fewest of all stages.
        pools: Stage and number of patients who train in any of its repetitions.
        donor: Stage of the donor that both sides descend from; empty where there is none.
        donors_differ: Whether the sides descend from different donors, or only one of them from a donor.
        by_site: Whether each repetition leaves another site out.
    """

    planned: int
    share: float
    num_train: float
    pools: tuple[tuple[str, int], ...] = ()
    donor: str = ""
    donors_differ: bool = False
    by_site: bool = False


def design_of(results: StudyResults, first: Side, second: Side) -> Design:
    """Returns what the plan says of two sides."""
    (stages, (donor, origin)), (others, (_, other)) = (_lineage(results, side) for side in (first, second))
    trained = pd.DataFrame([*stages, *others])
    pools = {(stage["stage"], stage["pool"]) for stage in (*stages, *others)}
    planned, order = results.planned(), results.stages
    return Design(
        planned=min(planned[side.arm, side.stage] for side in (first, second)),
        share=float(trained["share"].max()),
        num_train=float(trained["num_train"].min()),
        pools=tuple(sorted(pools, key=lambda pool: (order.index(pool[0]), pool[1]))),
        donor=donor if origin == other else "",
        donors_differ=origin != other,
        by_site=leaves_sites_out(results.plan),
    )


def _lineage(results: StudyResults, side: Side) -> tuple[list[dict[str, Any]], tuple[str, frozenset[Origin]]]:
    """Returns the stages that are trained once per repetition, the side's own first, and the donor.

    The donor is the name of its stage with what the trials start from.
    """
    by_id, plan = results.trials_by_id, results.plan["arms"][side.arm]["stages"]
    trials = [by_id[trial_id] for trial_id in sorted(results.trial_ids(side.arm, side.stage))]
    stages = []
    while True:
        frame, name = pd.DataFrame(trials), trials[0]["stage"]
        pool = plan[name]["pool_patients"]
        counts = {"share": frame["train_patients"].mean() / pool, "num_train": frame["num_train"].mean()}
        stages.append({"stage": name, "pool": pool, **counts})
        origins = [_origin(trial) for trial in trials]
        parents = {origin[0] for origin in origins if len(origin) == 1 and origin[0] in by_id}
        if len(parents) < len(trials):  # not one parent for each repetition
            return stages, (plan[name]["starts_from"] if any(origins) else "", frozenset(origins))
        trials = [by_id[origin[0]] for origin in origins]


def _origin(trial: Mapping[str, Any]) -> Origin:
    """Returns what a trial starts from: ids of trials (several: the best of them), a digest, or nothing."""
    origin = origin_of(trial)
    if donor := origin["donor"]:
        return (str(donor["sha256"] or donor["name"] or donor["path"]),)
    return tuple(origin["trials"])
