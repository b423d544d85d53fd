"""What other trials predict of a trial's cases, as the trial takes it: masks, and who passes a gate."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from xferlab.cohort import Selection
from xferlab.cohort.labels import classes_of_label
from xferlab.errors import TrainingError
from xferlab.metrics.metric import PASSED
from xferlab.plan.spec import GATE, MASKS, Input, TrialSpec
from xferlab.records.predictions import Arrays, PredictedCases
from xferlab.training.examples import AnyExamples, Pixels

log = logging.getLogger("xferlab.trial")

Digests = dict[str, dict[str, str]]
"""Digest of each stored prediction, by role and its id."""


@dataclass(frozen=True)
class Given:
    """What other trials predict of some cases of a trial; nothing where it takes none.

    Attributes:
        cases: Where the arrays of each case are, by role and the case's digest.
        inputs: What is taken of them, by role.
        used: What was read.
    """

    cases: Mapping[str, Mapping[str, PredictedCases]] = field(default_factory=dict)
    inputs: Mapping[str, Input] = field(default_factory=dict)
    used: Digests = field(default_factory=dict)

    def give(self, loaded: AnyExamples, digests: Sequence[str]) -> AnyExamples:
        """Gives cases, named by their digests in order, their masks."""
        if MASKS in self.cases:
            cases = self.cases[MASKS]
            loaded.masks = Masks(self.inputs[MASKS], lambda row: cases[digests[row]][digests[row]])
        return loaded

    def passed(self, digest: str) -> dict[str, float]:
        """Returns the value `passed` of a case: 1 or 0, as the gate lets it pass; nothing without a gate."""
        if GATE not in self.cases:
            return {}
        return {PASSED.name: float(passes(self.inputs[GATE], self.cases[GATE][digest][digest]))}

    def passing(self, selection: Selection, spec: TrialSpec) -> Selection:
        """Returns the cases of a part that the gate lets pass; all of them without one.

        Validation cases may lack a class, as in a plan; a warning says so.

        Raises:
            TrainingError: The gate lets none pass, or none of a class of the training cases.
        """
        if GATE not in self.cases or not selection.rows:
            return selection
        rows = tuple(row for row in selection.rows if all(self.passed(row[0]).values()))
        passing, part = Selection(selection.section, rows), selection.rows[0][1]
        if not rows:
            raise TrainingError(self._closed(spec, f"{len(selection.rows)} {part} cases"))
        before, after = _classes(selection, spec), _classes(passing, spec)
        for number in sorted(before.keys() - after.keys()):
            what = self._closed(spec, f"{before[number]} {part} cases of class {spec.targets[number]!r}")
            if part == "train":
                raise TrainingError(what)
            log.warning(what)
        return passing

    def _closed(self, spec: TrialSpec, cases: str) -> str:
        kept = " or ".join(self.inputs[GATE].names)
        return (
            f"{spec.name}: its gate lets none of the {cases} pass, since the stage that it asks takes none "
            f"for {kept}. Let other classes pass (gate.keep), learn other ones (classes), or train that "
            "stage better (its tables show how well it tells them apart)."
        )


def _classes(selection: Selection, spec: TrialSpec) -> Counter[int]:
    """How many of the cases have each class, by its number; empty where labels are not learnt."""
    several = spec.identity.has_several
    return Counter(
        number for label in selection.labels for number in classes_of_label(label, several=several)
    )


@dataclass(frozen=True)
class Masks:
    """Masks of cases in an order, in the order of the structures that a trial takes.

    Attributes:
        given: What it takes.
        arrays: Returns what is predicted of the case of a row, as `Learner.for_others` gives it.
    """

    given: Input
    arrays: Callable[[int], Arrays]

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of the structures, in the order of the planes."""
        return self.given.names

    def of(self, row: int) -> Pixels:
        """Returns the masks of a case as they were predicted, (S, h, w), 0 and 255."""
        planes: Pixels = self.arrays(row)["structures"]
        return planes[list(self.given.places)]


def passes(given: Input, arrays: Arrays) -> bool:
    """Returns whether a gate lets a case pass, of which others predict `arrays`."""
    return int(arrays.get("called", arrays["probability"]).argmax()) in given.places


NOTHING = Given()
