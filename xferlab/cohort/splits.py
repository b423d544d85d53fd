"""Parts of patients: a pure function of study seed, repetition and patients, the same in all stages.

Patients of the study's own sections are divided by the study's rule. Patients that only an arm adds are
assigned afterwards, each independently, so they do not change the part of anybody else. Nothing depends on
the order of files or on the machine.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from xferlab.cohort.case import Case
from xferlab.cohort.dividing import Stratum, deal, divide, rank
from xferlab.cohort.rules import HoldOuts, Part, Parts, Rule

_TIE_ORDER = {"covid19": 0, "pathological": 1, "normal": 2}


@dataclass(frozen=True)
class Cohort:
    """The patients of a study and the rule that divides them.

    Attributes:
        seed: The study's seed.
        sections: The study's own data sections before an arm's filters: name -> cases.
        hold_out: Section -> share of its patients that is held out.
        rule: Divides those who are not held out.
        by_patient: False divides images instead of patients.

    The names of sections only distinguish strata: renaming a section changes no part.
    """

    seed: int
    sections: Mapping[str, Sequence[Case]]
    hold_out: Mapping[str, float]
    rule: Rule = field(default_factory=HoldOuts)
    by_patient: bool = True

    def unit(self, case: Case) -> str:
        """Returns what a split keeps whole: the patient, or the image where it divides images.

        An image is known by its patient and name, so that an arm that simulates a device keeps all parts.
        """
        return case.patient if self.by_patient else f"{case.patient}\x1f{case.name}"

    def held_out(self) -> frozenset[str]:
        """Returns the units that no stage trains, validates or tests on: one fixed choice per study seed."""
        return frozenset[str]().union(*self.held_out_by().values())

    def held_out_by(self) -> dict[str, frozenset[str]]:
        """Returns the units that each section with a hold-out holds out, from all sections."""
        chosen = dict[str, frozenset[str]]()
        for section, share in sorted(self.hold_out.items()):
            strata = self._strata_of({section: self.sections[section]})
            parts = divide(strata, (share, 1.0 - share), (self.seed, "hold_out"))
            chosen[section] = frozenset(unit for unit, part in parts.items() if part == 0)
        return chosen

    def parts(self, repetition: int) -> Parts:
        """Returns the part of every unit in one repetition, from 1."""
        parts = self.rule.parts(self._divided, self.seed, repetition)
        parts.update(dict.fromkeys(self._strata.keys() - parts.keys(), "hold_out"))
        return parts

    def part_of_added(self, unit: str, repetition: int) -> Part | None:
        """Returns the part of a unit that only an arm has, if the rule gives it any."""
        return self.rule.part_of_added(unit, self.seed, repetition)

    def labelled(
        self, units: Iterable[str], fraction: float, repetition: int, *, stratified: bool = True
    ) -> frozenset[str]:
        """Returns a share of the training units of a repetition: the first in an order drawn for it.

        Of each stratum, or of all units together, round(fraction n), at least one; none for a fraction of 0.
        A smaller share is a subset of a larger one of the same repetition.
        """
        if not fraction:
            return frozenset()
        groups: dict[Stratum | None, list[str]] = defaultdict(list)
        draw = (self.seed, "labels", self.rule.sample(repetition))
        for unit in sorted(units, key=lambda unit: (rank(*draw, unit), unit)):
            groups[self._strata.get(unit) if stratified else None].append(unit)
        kept = (group[: max(1, round(fraction * len(group)))] for group in groups.values())
        return frozenset(unit for group in kept for unit in group)

    def dealt(self, units: Iterable[str], number: int, repetition: int) -> dict[str, int]:
        """Returns the fold (from 0) of each of some training units of a repetition, out of so many folds.

        Each fold is predicted by a network that the others train.
        """
        strata = {unit: self._strata.get(unit, ((), "")) for unit in units}
        return deal(strata, number, (self.seed, "out_of_fold", self.rule.sample(repetition)))

    @cached_property
    def _divided(self) -> dict[str, Stratum]:
        """Those of `_strata` that are not held out."""
        held_out = self.held_out()
        return {unit: key for unit, key in self._strata.items() if unit not in held_out}

    @cached_property
    def _strata(self) -> dict[str, Stratum]:
        return self._strata_of(self.sections)

    def _strata_of(self, sections: Mapping[str, Sequence[Case]]) -> dict[str, Stratum]:
        """Unit -> (sections it appears in, its most frequent pathology)."""
        pathologies: dict[str, Counter[str]] = defaultdict(Counter)
        members: dict[str, set[str]] = defaultdict(set)
        for name, cases in sections.items():
            for case in cases:
                unit = self.unit(case)
                pathologies[unit][case.pathology] += 1
                members[unit].add(name)
        return {u: (tuple(sorted(members[u])), most_frequent(counts)) for u, counts in pathologies.items()}


def most_frequent(counts: Mapping[str, int]) -> str:
    """Returns the pathology with the highest count; ties: covid19, pathological, normal, then by name."""

    def order(name: str) -> tuple[int, int, str]:
        return -counts[name], _TIE_ORDER.get(name, len(_TIE_ORDER)), name

    return min(counts, key=order)
