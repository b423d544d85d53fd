"""Cases of a trial that networks that it descends from may have trained on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from xferlab.plan.growing import ancestors
from xferlab.plan.plan import Plan
from xferlab.plan.spec import TrialSpec


class SeenByParents:
    """The rule of `EvaluationSpec.parent_may_have_seen`, case by case.

    In other repetitions, an ancestor trains or selects on patients that a trial has in other parts.
    """

    def __init__(self, plan: Plan):
        self._plan = plan

    def of(self, trial: TrialSpec, part: str) -> frozenset[str]:
        """Returns the cases of a part that a trial learns from, by digest, that an ancestor may have seen."""
        others = (a for a in ancestors(trial.inputs, self._plan.by_id) if a.repetition != trial.repetition)
        known = frozenset(self._units[digest] for other in others for digest in self._digests(other))
        return frozenset(each for each in self._digests(trial, part) if self._units[each] in known)

    def number(self, trial: TrialSpec, part: str) -> int:
        """Returns how many cases of a part a trial learns from."""
        return len(self._digests(trial, part))

    def _digests(self, trial: TrialSpec, *parts: str) -> list[str]:
        rows = (row for each in trial.trained_selections for row in self._plan.selections[each].rows)
        return [row[0] for row in rows if not parts or row[1] in parts]

    @cached_property
    def _units(self) -> Mapping[str, str]:
        selector = self._plan.selector
        return {case.digest: selector.cohort.unit(case) for _, case, _ in selector.listed()}
