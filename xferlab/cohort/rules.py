"""The rules that divide the patients of a study in each repetition, apart from those who are held out.

A rule is a pure function of the study's seed, the repetition (from 1) and the units with their strata.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from xferlab.cohort.dividing import Stratum, deal, divide, rank

Part = Literal["train", "validation", "test", "hold_out"]
SPLIT_PARTS: tuple[Part, ...] = ("train", "validation", "test")
_ELSEWHERE = {"val": "validation", "valid": "validation", "dev": "validation"}


def usual_part(name: str) -> str:
    """Returns our name of a part for one that others use, such as `val`; any other name as it is."""
    return _ELSEWHERE.get(name.casefold(), name)


Strata = Mapping[str, Stratum]
Parts = dict[str, Part]
Coordinates = Mapping[str, int | str]


class Rule(ABC):
    """How units are divided."""

    may_lack_cases: ClassVar[bool] = False
    """Whether a stage may be without cases in some repetitions: it then has no trial there."""

    @property
    def num_repetitions(self) -> int | None:
        """How many repetitions it has; None for as many as a study asks for."""
        return None

    def sample(self, repetition: int) -> int:
        """Returns the number of the training sample of a repetition, from 1; several may share one."""
        return repetition

    def coordinates(self, repetition: int) -> Coordinates:
        """Returns what a repetition is; empty where it is nothing but a repetition."""
        return {}

    @abstractmethod
    def parts(self, strata: Strata, seed: int, repetition: int) -> Parts:
        """Returns the part of every unit."""

    def part_of_added(self, unit: str, seed: int, repetition: int) -> Part | None:
        """Returns the part of a unit that only an arm has; None where the rule knows the study's own only."""
        return None


@dataclass(frozen=True)
class HoldOuts(Rule):
    """Every split divides all units anew; repetitions count the seeds of the first split, then the second's.

    Attributes:
        fractions: Shares of train, validation and test; they sum to 1.
        seeds: Repetitions of a split.
    """

    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    seeds: int = 1

    def sample(self, repetition: int) -> int:
        """Returns the split."""
        return (repetition - 1) // self.seeds + 1

    def coordinates(self, repetition: int) -> Coordinates:
        """Returns `split` and `seed`, both from 1, where a split has several; else it is a repetition."""
        if self.seeds == 1:
            return {}
        return {"split": self.sample(repetition), "seed": (repetition - 1) % self.seeds + 1}

    def parts(self, strata: Strata, seed: int, repetition: int) -> Parts:
        """Returns parts of these shares, drawn for the split."""
        divided = divide(strata, self.fractions, (seed, "split", self.sample(repetition)))
        return {unit: SPLIT_PARTS[index] for unit, index in divided.items()}

    def part_of_added(self, unit: str, seed: int, repetition: int) -> Part | None:
        """Returns a part drawn for this unit alone."""
        position = rank(seed, "split", self.sample(repetition), "added", unit)
        train, validation, _ = self.fractions
        return "train" if position < train else "validation" if position < train + validation else "test"


@dataclass(frozen=True)
class Folds(Rule):
    """Cross-validation: within each repeat, every unit tests once.

    One fold tests, the next one selects (validation), the others train. Repetitions count the folds of the
    first repeat, then those of the second, and so on.

    Attributes:
        number: Folds of a repeat, at least 3.
        repeats: How often all units are divided anew.
    """

    number: int
    repeats: int = 1

    @property
    def num_repetitions(self) -> int:
        """Repeats x folds."""
        return self.number * self.repeats

    def coordinates(self, repetition: int) -> Coordinates:
        """Returns `repeat` and `fold`, both from 1."""
        repeat, fold = divmod(repetition - 1, self.number)
        return {"repeat": repeat + 1, "fold": fold + 1}

    def parts(self, strata: Strata, seed: int, repetition: int) -> Parts:
        """Returns the parts where the repetition's fold tests."""
        dealt = deal(strata, self.number, (seed, "folds", self._repeat(repetition)))
        return {unit: self._part(fold, repetition) for unit, fold in dealt.items()}

    def part_of_added(self, unit: str, seed: int, repetition: int) -> Part | None:
        """Returns the part of a fold that is drawn for this unit alone."""
        position = rank(seed, "folds", self._repeat(repetition), "added", unit)
        return self._part(int(position * self.number), repetition)

    def _repeat(self, repetition: int) -> int:
        return (repetition - 1) // self.number + 1

    def _part(self, fold: int, repetition: int) -> Part:
        distance = (fold - (repetition - 1)) % self.number
        return "test" if distance == 0 else "validation" if distance == 1 else "train"


@dataclass(frozen=True)
class Sites(Rule):
    """Every repetition leaves another site out, which tests; sites come by name.

    A unit with images of several sites tests in the repetition of each of them, with all of its images, and
    so never trains where one of its sites tests. Units without a site are divided anew by `fractions`.

    Attributes:
        sites: The sites of every unit that has any.
        fractions: Shares of train, validation and test of units without a site. The second is also the share
            of validation among the units of the other sites; all others of them train.
    """

    sites: Mapping[str, frozenset[str]]
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    may_lack_cases: ClassVar[bool] = True

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The sites, in order."""
        return tuple(sorted(frozenset[str]().union(*self.sites.values())))

    @property
    def num_of_several(self) -> int:
        """How many units have images of several sites."""
        return sum(len(names) > 1 for names in self.sites.values())

    @property
    def num_repetitions(self) -> int:
        """The number of sites."""
        return len(self.names)

    def coordinates(self, repetition: int) -> Coordinates:
        """Returns `site`: the one that tests."""
        return {"site": self.names[repetition - 1]}

    def parts(self, strata: Strata, seed: int, repetition: int) -> Parts:
        """Returns the parts where the repetition's site tests."""
        left_out = self.names[repetition - 1]
        others = {unit: key for unit, key in strata.items() if left_out not in self.sites.get(unit, ())}
        parts: Parts = dict.fromkeys(strata.keys() - others.keys(), "test")
        has_site = {unit: key for unit, key in others.items() if unit in self.sites}
        has_none = {unit: key for unit, key in others.items() if unit not in self.sites}
        validation = self.fractions[1]
        for units, shares in ((has_site, (1 - validation, validation)), (has_none, self.fractions)):
            divided = divide(units, shares, (seed, "split", left_out))
            parts |= {unit: SPLIT_PARTS[index] for unit, index in divided.items()}
        return parts


@dataclass(frozen=True)
class Given(Rule):
    """Parts that somebody else has chosen.

    Attributes:
        given: The part of every unit, for each repetition; one entry holds for every repetition.
        num_repetitions: None where one entry holds for all.
        unused: How many units have a part and are held out.
    """

    given: tuple[Mapping[str, Part], ...]
    num_repetitions: int | None = None
    unused: int = 0

    def parts(self, strata: Strata, seed: int, repetition: int) -> Parts:
        """Returns the parts that were given."""
        given = self.given[0 if self.num_repetitions is None else repetition - 1]
        return {unit: given[unit] for unit in strata}
