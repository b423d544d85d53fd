"""Who predicted the masks that a trial trains with: networks that knew these patients already, or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache

from xferlab.cohort.labels import classes_of_label
from xferlab.plan.growing import ancestors
from xferlab.plan.plan import Plan
from xferlab.plan.spec import MASKS, TrialSpec

SOURCES = ("trained", "selected", "unseen")
"""What a network knew of a case that it predicts: it trained on the patient, or its best epoch was chosen by
the patient, or neither; and so the networks whose weights it goes back to."""

NO_CLASS = "none"


class MaskSources:
    """The sources of masks of the trials of a plan."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._cases = {case.digest: case for _, case, _ in plan.selector.listed()}
        self._units = cache(self._units_of)

    def of(self, trial: TrialSpec) -> dict[str, dict[str, dict[str, int]]]:
        """Returns numbers of cases by part, class and source (`SOURCES`); empty where it takes no masks.

        The class is the label where the task learns any, else the pathology. A case of several classes counts
        in each of them, one of none under `none`.
        """
        if not trial.input(MASKS):
            return {}
        rows = {row[0]: row for row in self._plan.selections[trial.selection].rows}
        counts: dict[str, dict[str, Counter[str]]] = {}
        for item in trial.predicted:
            if item.role == MASKS:
                units = self._units(item.trial)
                for digest in self._plan.selections[item.selection].digests:
                    _, part, *label = rows[digest]
                    source = units.get(self._plan.units[digest], "unseen")
                    by_class = counts.setdefault(part, {})
                    for name in self._classes(trial, digest, *label):
                        by_class.setdefault(name, Counter(dict.fromkeys(SOURCES, 0)))[source] += 1
        return {part: {name: dict(n) for name, n in classes.items()} for part, classes in counts.items()}

    def _classes(self, trial: TrialSpec, digest: str, label: str | None = None) -> tuple[str, ...]:
        """The classes of a case for a trial, which may learn labels."""
        if label is None:
            return (self._cases[digest].pathology,)
        numbers = classes_of_label(int(label), several=trial.identity.has_several)
        return tuple(trial.targets[number] for number in numbers) or (NO_CLASS,)

    def _units_of(self, trial_id: str) -> Mapping[str, str]:
        """What a trial and those that it starts from knew of the units that they trained or selected on."""
        trial = self._plan.by_id[trial_id]
        known = (trial, *ancestors(trial.inputs, self._plan.by_id, origins_only=True))
        rows = [
            row
            for each in {selection for spec in known for selection in spec.trained_selections}
            for row in self._plan.selections[each].rows
        ]
        names = {"validation": "selected", "train": "trained"}
        return {
            self._plan.units[row[0]]: name for part, name in names.items() for row in rows if row[1] == part
        }
