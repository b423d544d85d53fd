"""How the repetitions of a comparison depend on each other: shared training patients and shared donors."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from xferlab.analysis.division import divided_units, leaves_sites_out
from xferlab.analysis.estimates import (
    FEW_TRAINING_PATIENTS,
    Codes,
    Floats,
    measured_of_samples,
    overlap_of,
)
from xferlab.analysis.results import EvaluationSet, StudyResults

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

    Every stage counts that a side takes anything from and that is trained once per repetition. A donor is
    what all repetitions of a side descend from together: given weights, or a single training. A study has
    either one donor for all repetitions of a side, or one for each, which then is such a stage.

    Attributes:
        planned: Repetitions in which both sides are to be measured; where sites are left out, these may be
            fewer than those that train.
        share: Mean number of training patients of a repetition over the number of patients who train in any
            repetition; the largest of all stages.
        num_train: Training images of a repetition in the stages that train on the section that is measured;
            the fewest, infinite where none does.
        share_of_few: The largest `share` of the stages in which few patients train; 0 where there is none.
        ratio_elsewhere: Test patients per training patient, by the shares of the split or as its file has
            them, in the stages that train on others; the largest.
        pools: Stage and number of patients who train in any of its repetitions.
        donor: Stage of the donor that both sides descend from; empty where there is none.
        donors_differ: Whether the sides descend from different donors, or only one of them from a donor.
        divides_patients: Whether images are divided, and some of the patients that are measured have several.
        by_site: Whether each repetition leaves another site out.
        strict: Whether the overlap of training samples is taken at its upper bound.
        seeds: Repetitions that share each split, and differ in their seeds.
    """

    planned: int
    share: float
    num_train: float
    share_of_few: float = 0.0
    ratio_elsewhere: float = 0.0
    pools: tuple[tuple[str, int], ...] = ()
    donor: str = ""
    donors_differ: bool = False
    divides_patients: bool = False
    by_site: bool = False
    strict: bool = False
    seeds: int = 1

    def overlap(self, by_repetition: Floats, splits: Codes) -> float:
        """Returns what repetitions have in common on a hold-out: r, see `overlap_of`.

        Args:
            by_repetition: The difference of each repetition, shape (repetitions,).
            splits: The split of each, shape (repetitions,).
        """
        of_samples = 1.0 if self.strict else measured_of_samples(by_repetition, splits)
        of_few = overlap_of(self.share_of_few, of_samples=1.0)
        return max(overlap_of(self.share, of_samples=of_samples), of_few)


def design_of(results: StudyResults, first: Side, second: Side) -> Design:
    """Returns what the plan says of two sides."""
    (stages, ends), (others, of_other) = (_lineage(results, side) for side in (first, second))
    trained = pd.DataFrame([*stages, *others])
    is_here = trained["data"] == second.evaluated.section
    is_few = trained["patients"] < FEW_TRAINING_PATIENTS
    pools = {(stage["stage"], stage["pool"]) for stage in (*stages, *others)}
    planned = [results.planned_repetitions(side.arm, side.evaluated) for side in (first, second)]
    order = results.stages
    origins, other = ({(end.role, end.origins) for end in side} for side in (ends, of_other))
    donors = dict.fromkeys(end.donor for end in ends if end.donor)
    return Design(
        planned=len(frozenset.intersection(*planned)),
        share=float(trained["share"].max()),
        num_train=float(trained.loc[is_here, "num_train"].min()) if is_here.any() else math.inf,
        share_of_few=float(trained["share"].where(is_few, 0.0).max()),
        ratio_elsewhere=float(trained.loc[~is_here, "test_to_train"].max()) if not is_here.all() else 0.0,
        pools=tuple(sorted(pools, key=lambda pool: (order.index(pool[0]), pool[1]))),
        donor=" and ".join(donors) if origins == other else "",
        donors_differ=origins != other,
        divides_patients=divided_units(results.plan) == "images"
        and any(
            section.get("cases", 0) > section.get("patients", 0)
            for section in results.sections(second.evaluated.section)
        ),
        by_site=leaves_sites_out(results.plan),
        seeds=results.plan.get("split", {}).get("seeds_per_split", 1),
    )


def _test_to_train(results: StudyResults, data: str, patients: float, pool: int) -> float:
    """Test patients per training patient where these train, whether or not they are measured there."""
    split = results.plan.get("split", {})
    if split.get("file"):
        tested = float(sum(section.get("test_patients", math.nan) for section in results.sections(data)))
        # A plan that does not say it: at most all others.
        return (pool - patients if math.isnan(tested) else tested) / patients
    share = 1 / split["folds"] if split.get("folds") else float(split.get("test") or 0.0)
    return share / (patients / pool)


class _End(NamedTuple):
    """Where a line of a side ends: in what role, at which donor, and what its trials start from there."""

    role: str
    donor: str
    origins: frozenset[Origin]


def _lineage(results: StudyResults, side: Side) -> tuple[list[dict[str, Any]], list[_End]]:
    """Returns the stages that are trained once per repetition, the side's own first, and where lines end."""
    by_id = results.trials_by_id
    trials = [by_id[trial_id] for trial_id in sorted(results.trial_ids(side.arm, side.stage))]
    lines, stages, ends = deque([("", trials)]), dict[str, list[dict[str, Any]]](), list[_End]()
    while lines:
        line, trials = lines.popleft()
        entry = _entry(results, side.arm, trials[0])
        stages.setdefault(trials[0]["trial_id"], _counts(results, trials, entry))
        for role in (given["role"] for given in trials[0]["inputs"]):
            origins = [_origin(trial, role) for trial in trials]
            parents = {origin[0] for origin in origins if len(origin) == 1 and origin[0] in by_id}
            deeper = line if role == "starts_from" else f"{line}/{role}"
            if len(parents) == len(trials):
                lines.append((deeper, [by_id[origin[0]] for origin in origins]))
            else:  # not one parent for each repetition
                ends.append(_End(deeper, _donor(entry, role), frozenset(origins)))
    return [counts for sets in stages.values() for counts in sets], ends


def _entry(results: StudyResults, arm: str, trial: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the plan says of a trial's stage: in an arm, or where another arm gives it, in that."""
    of_arm = arm if arm in trial["arms"] else trial["arms"][0]
    entry: Mapping[str, Any] = results.plan["arms"][of_arm]["stages"][trial["stage"]]
    return entry


def _counts(
    results: StudyResults, trials: Sequence[Mapping[str, Any]], entry: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What trains in the trials of a stage: of each set of cases that it learns from."""
    others = [{other["name"]: other for other in trial.get("others", ())} for trial in trials]
    pools, sets = entry.get("pools_of_others", {}), [(trials, entry["pool_patients"])]
    sets += [([by_name[name] for by_name in others], pool) for name, pool in pools.items()]
    counts = []
    for of_set, pool in sets:
        frame, data = pd.DataFrame(of_set), of_set[0]["data"]
        patients, images = frame["train_patients"].mean(), frame["num_train"].mean()
        shares = {"patients": patients, "share": patients / pool, "num_train": images}
        ratio = {"test_to_train": _test_to_train(results, data, patients, pool)}
        counts.append({"stage": trials[0]["stage"], "data": data, "pool": pool, **shares, **ratio})
    return counts


def _donor(entry: Mapping[str, Any], role: str) -> str:
    """The stage from which the trials of another one start."""
    _, _, network = role.partition(".")
    return str(entry["networks"][network] if network else entry["starts_from"])


def _origin(trial: Mapping[str, Any], role: str) -> Origin:
    """Returns what a trial takes in a role: ids of trials (several: the best of them), or a digest."""
    given = next(given for given in trial["inputs"] if given["role"] == role)
    if donor := given["donor"]:
        return (str(donor["sha256"] or donor["name"] or donor["path"]),)
    return tuple(given["trials"])
