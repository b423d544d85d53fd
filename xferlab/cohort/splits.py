"""Parts of patients: a pure function of study seed, repetition and patients, the same in all stages.

Patients of the study's own sections are divided by stratum. Patients that only an arm adds are assigned
afterwards, each independently, so they do not change the part of anybody else. Nothing depends on the order
of files or on the machine.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from xferlab.cohort.case import Case

Part = Literal["train", "validation", "test", "hold_out"]
SPLIT_PARTS: tuple[Part, ...] = ("train", "validation", "test")
_TIE_ORDER = {"covid19": 0, "pathological": 1, "normal": 2}

Stratum = tuple[tuple[str, ...], str]


def rank(*coordinates: object) -> float:
    """Returns a number in [0, 1) that is a pure function of the coordinates (SHA-256, 53 bits)."""
    text = "\x1f".join(map(str, coordinates))
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 11) / (1 << 53)


@dataclass(frozen=True)
class Cohort:
    """The patients of a study and the rule that divides them.

    Attributes:
        seed: The study's seed.
        sections: The study's own data sections before an arm's filters: name -> cases.
        hold_out: Section -> share of its patients that is held out.
        fractions: Shares of train, validation and test; they sum to 1.
        by_patient: False divides images instead of patients.

    The names of sections only distinguish strata: renaming a section changes no part.
    """

    seed: int
    sections: Mapping[str, Sequence[Case]]
    hold_out: Mapping[str, float]
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    by_patient: bool = True

    def unit(self, case: Case) -> str:
        """Returns what a split keeps whole: the patient, or the image where it divides images.

        An image is known by its patient and name, so that an arm that simulates a device keeps all parts.
        """
        return case.patient if self.by_patient else f"{case.patient}\x1f{case.name}"

    def held_out(self) -> frozenset[str]:
        """Returns the units that no stage trains, validates or tests on: one fixed choice per study seed."""
        chosen: set[str] = set()
        for section, share in sorted(self.hold_out.items()):
            strata = self._strata({section: self.sections[section]})
            parts = self._divide(strata, (share, 1.0 - share), ("hold_out",))
            chosen.update(unit for unit, part in parts.items() if part == 0)
        return frozenset(chosen)

    def parts(self, repetition: int, added: Iterable[Case] = ()) -> dict[str, Part]:
        """Returns the part of every unit in one repetition; `added` are cases that only an arm has."""
        held_out = self.held_out()
        strata = {unit: key for unit, key in self._strata(self.sections).items() if unit not in held_out}
        divided = self._divide(strata, self.fractions, ("split", repetition))
        parts: dict[str, Part] = {unit: SPLIT_PARTS[index] for unit, index in divided.items()}
        parts.update(dict.fromkeys(held_out, "hold_out"))
        for unit in {self.unit(case) for case in added} - parts.keys():
            parts[unit] = self.part_of_added(unit, repetition)
        return parts

    def labelled(self, units: Iterable[str], fraction: float) -> frozenset[str]:
        """Returns a share of training units: the first of each stratum in a seeded order, at least one.

        A smaller share is a subset of a larger one, in every repetition.
        """
        strata = self._strata(self.sections)
        groups: dict[Stratum | None, list[str]] = defaultdict(list)
        for unit in sorted(units, key=lambda unit: (rank(self.seed, "labels", unit), unit)):
            groups[strata.get(unit)].append(unit)
        kept = (group[: max(1, round(fraction * len(group)))] for group in groups.values())
        return frozenset(unit for group in kept for unit in group)

    def part_of_added(self, unit: str, repetition: int) -> Part:
        """Returns the part of a unit that only an arm has; the parts of others stay the same."""
        position = rank(self.seed, "split", repetition, "added", unit)
        train, validation, _ = self.fractions
        return "train" if position < train else "validation" if position < train + validation else "test"

    def _strata(self, sections: Mapping[str, Sequence[Case]]) -> dict[str, Stratum]:
        """Unit -> (sections it appears in, its most frequent pathology)."""
        pathologies: dict[str, Counter[str]] = defaultdict(Counter)
        members: dict[str, set[str]] = defaultdict(set)
        for name, cases in sections.items():
            for case in cases:
                unit = self.unit(case)
                pathologies[unit][case.pathology] += 1
                members[unit].add(name)
        return {u: (tuple(sorted(members[u])), most_frequent(counts)) for u, counts in pathologies.items()}

    def _divide(
        self, strata: Mapping[str, Stratum], shares: Sequence[float], purpose: tuple[object, ...]
    ) -> dict[str, int]:
        """Divides each stratum by largest remainder; what rounding leaves over carries to the next stratum.

        Strata come in a seeded order, so that leftovers fall to another stratum in each repetition. A stratum
        of one or two patients still gets the same sizes each time where the others leave nothing over.
        """
        members: dict[Stratum, list[str]] = defaultdict(list)
        # In seeded order, and so are the strata: by their first member.
        for unit in sorted(strata, key=lambda unit: (rank(self.seed, *purpose, unit), unit)):
            members[strata[unit]].append(unit)
        carried = [0.0] * len(shares)
        parts: dict[str, int] = {}
        for units in members.values():
            wanted = [share * len(units) + rest for share, rest in zip(shares, carried, strict=True)]
            sizes = largest_remainder(wanted, len(units))
            carried = [want - size for want, size in zip(wanted, sizes, strict=True)]
            bounds = [index for index, size in enumerate(sizes) for _ in range(size)]
            parts.update(zip(units, bounds, strict=True))
        return parts


def most_frequent(counts: Mapping[str, int]) -> str:
    """Returns the pathology with the highest count; ties: covid19, pathological, normal, then by name."""

    def order(name: str) -> tuple[int, int, str]:
        return -counts[name], _TIE_ORDER.get(name, len(_TIE_ORDER)), name

    return min(counts, key=order)


def largest_remainder(wanted: Sequence[float], total: int) -> list[int]:
    """Returns whole sizes that sum to `total` and are nearest to `wanted` (which may dip below zero).

    Ties go to the later part, so that a test or validation part is filled before training takes all.
    """
    sizes = [max(0, int(want // 1)) for want in wanted]
    while sum(sizes) < total:
        sizes[max(range(len(sizes)), key=lambda i: (round(wanted[i] - sizes[i], 9), i))] += 1
    while sum(sizes) > total:
        occupied = [i for i in range(len(sizes)) if sizes[i]]
        sizes[min(occupied, key=lambda i: (round(wanted[i] - sizes[i], 9), i))] -= 1
    return sizes
