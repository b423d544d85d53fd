"""Shares of the labels that are not what they say: two of them that train on nearly the same patients."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from statistics import fmean

from xferlab.plan.spec import LABELLED, TrialSpec
from xferlab.study.schema import Study

NEAR = 1.25
"""Times as many training patients, below which two shares are nearly the same."""


def nearly_equal(
    arms: Mapping[str, Study], trials: Iterable[TrialSpec], train_patients: Mapping[str, frozenset[str]]
) -> Iterator[tuple[str, str]]:
    """Yields stage and words for arms whose different `label_fraction` leave nearly as many patients.

    Args:
        arms: All arms.
        trials: Their trials.
        train_patients: Who trains, by the digest of the cases that are trained on.
    """
    patients = defaultdict[tuple[str, str], list[int]](list)
    for trial in trials:
        for arm in trial.arms:
            patients[trial.stage, arm].append(len(train_patients[_labelled(trial)]))
    for stage in dict.fromkeys(stage for stage, _ in patients):
        means = {
            arm: (share, fmean(patients[stage, arm]))
            for arm, study in arms.items()
            if (stage, arm) in patients and (share := study.stages[stage].share)
        }
        ordered = sorted(means.items(), key=lambda item: item[1][0])
        for (one, (share, few)), (other, (more, many)) in combinations(ordered, 2):
            if share < more and many < NEAR * few:
                what = (
                    f"arms {one!r} ({share:.3g} of the labels) and {other!r} ({more:.3g}) train stage "
                    f"{stage!r} on nearly as many patients a repetition, {few:.3g} and {many:.3g}: each "
                    "section and pathology keeps at least one, unless `stratified` is false"
                )
                yield stage, what


def _labelled(trial: TrialSpec) -> str:
    """The digest of the cases whose share varies: of several sets, those whose masks are read."""
    others = (other.selection for other in trial.others if other.name.endswith(f".{LABELLED}"))
    return next(others, trial.selection)
