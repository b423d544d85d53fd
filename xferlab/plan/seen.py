"""Cases of a trial that networks that it descends from may have trained on."""

from __future__ import annotations

from xferlab.plan.growing import ancestors
from xferlab.plan.plan import Plan
from xferlab.plan.spec import TrialSpec


def learned_from(plan: Plan, trial: TrialSpec, *parts: str) -> list[str]:
    """Returns the cases that a trial learns from, by digest: of some parts, or of all."""
    rows = (row for each in trial.trained_selections for row in plan.selections[each].rows)
    return [row[0] for row in rows if not parts or row[1] in parts]


def seen_by_parents(plan: Plan, trial: TrialSpec, part: str) -> frozenset[str]:
    """Returns the cases of a part that a trial learns from, by digest, that an ancestor may have seen.

    It is the rule of `EvaluationSpec.parent_may_have_seen`, case by case: in other repetitions, an ancestor
    trains or selects on patients that a trial has in other parts.
    """
    others = (a for a in ancestors(trial.inputs, plan.by_id) if a.repetition != trial.repetition)
    known = frozenset(plan.units[digest] for other in others for digest in learned_from(plan, other))
    return frozenset(each for each in learned_from(plan, trial, part) if plan.units[each] in known)
