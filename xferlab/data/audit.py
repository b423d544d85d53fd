"""The leakage audit: one image under several patients, found before patients are divided.

Patients who share an exposure are taken for one person, whom no split parts, in any stage. Sections of files
are compared within and with each other; phantoms are different people by construction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from xferlab.cohort import Case
from xferlab.data.comparisons import Likeness, Member, Places, compare
from xferlab.data.filters import join_patients
from xferlab.data.parallel import Progress
from xferlab.data.sources import Source
from xferlab.errors import DataError, Problem

_SHOWN = 3


class Audited(NamedTuple):
    """A section of files in the audit.

    Attributes:
        name: As in the study.
        source: Where its images come from, before any device simulation.
        own: Whether the study itself has it, rather than an arm.
        different: Groups of patients who are different people, whatever their images show.
    """

    name: str
    source: Source
    own: bool
    different: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class Audit:
    """What the audit found.

    Attributes:
        persons: Patient id -> the id of the person, for patients that are joined.
        warnings: One for each person with several ids.
        num_near: Pairs that correlate and were left apart, since they differ in detail.
        unusable: Why cases cannot be used, whose image or mask cannot be read or does not fit.
    """

    persons: Mapping[str, str]
    warnings: tuple[Problem, ...] = ()
    num_near: int = 0
    unusable: tuple[Problem, ...] = ()

    @property
    def summary(self) -> tuple[Problem, ...]:
        """What a reader of the results should know; it names nobody."""
        if not self.warnings:
            return ()
        number = len(set(self.persons.values()))
        what = (
            f"by their images, {number} persons stand under several patient ids; each counts as one patient"
        )
        return (Problem("data", what, "warning"),)

    def joined(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Returns cases under their persons, by patient and name."""
        if self.persons.keys().isdisjoint(case.patient for case in cases):
            return tuple(cases)
        named = (replace(case, patient=self.persons.get(case.patient, case.patient)) for case in cases)
        return tuple(sorted(named, key=lambda case: (case.patient, case.name)))


def audit(sections: Sequence[Audited], *, memo_dir: Path, progress: Progress | None = None) -> Audit:
    """Compares the images of different patients and joins the patients who share an exposure.

    Args:
        sections: All sections of files of the study and its arms.
        memo_dir: Where digests of known files are kept; what is found is remembered there, too.
        progress: Told (done, all) while new images are decoded.

    Raises:
        DataError: An image that only an arm has would join two people of the study, whom splits may part.
    """
    places: Places = {
        Member(case.digest, case.patient): (section.source, case)
        for section in sections
        for case in _cases(section)
    }
    alike, failures = compare(places, memo_dir=memo_dir, progress=progress)
    own = {case.patient for section in sections if section.own for case in _cases(section)}
    shared = [one for one in alike if one.one_exposure and not _told_apart(one, sections, own)]
    inside = join_patients(_ids(one) for one in shared if own.issuperset(_ids(one)))
    report = _Report(sections, places)
    persons, problems = {}, []
    for group in _groups(shared):
        found = [one for one in shared if one.first.patient in group]
        # The study's own patients keep the id that they have without any arm.
        anchors = {inside.get(patient, patient) for patient in group & own}
        person = min(anchors or group)
        persons.update(dict.fromkeys(group, person))
        problems.append(report.refusal(found, anchors) if len(anchors) > 1 else report.warning(found, person))
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise DataError(errors)
    return Audit(
        persons,
        tuple(problems),
        num_near=sum(not one.one_exposure for one in alike),
        unusable=tuple(problem for error in failures.values() for problem in error.problems),
    )


def _cases(section: Audited) -> tuple[Case, ...]:
    return section.source.survey.cases + section.source.survey.doubled


def _ids(pair: Likeness) -> tuple[str, str]:
    return pair.first.patient, pair.second.patient


def _told_apart(pair: Likeness, sections: Sequence[Audited], own: Set[str]) -> bool:
    """Whether the study says so; of people whom it does not have alone, an arm's section may."""
    ids = set(_ids(pair))
    heard = (section for section in sections if section.own or not ids <= own)
    return any(ids <= set(group) for section in heard for group in section.different)


def _groups(pairs: Iterable[Likeness]) -> list[set[str]]:
    groups: dict[str, set[str]] = defaultdict(set)
    for patient, first in join_patients(_ids(pair) for pair in pairs).items():
        groups[first].add(patient)
    return [groups[first] for first in sorted(groups)]


class _Report:
    """How findings are told."""

    def __init__(self, sections: Sequence[Audited], places: Places):
        self._patients: dict[str, set[str]] = defaultdict(set)
        for section in sections:
            self._patients[section.name].update(case.patient for case in _cases(section))
        self._names = {member: case.name for member, (_, case) in places.items()}

    def warning(self, pairs: Sequence[Likeness], person: str) -> Problem:
        """What is told where patients are joined."""
        ids = sorted({patient for pair in pairs for patient in _ids(pair)})
        what = (
            f"{self._shown(pairs)}: patients {_listed(ids)} are taken for one, {person!r}, whom no"
            f" split parts. `same_patient: [[{', '.join(ids)}]]` says so; if they are different people,"
            f" `different_patients: [[{', '.join(ids)}]]`."
        )
        return Problem(self._where(ids), what, "warning")

    def refusal(self, pairs: Sequence[Likeness], anchors: Set[str]) -> Problem:
        """What is told where an arm's image joins people whom the study's splits may part."""
        ids = sorted({patient for pair in pairs for patient in _ids(pair)})
        what = (
            f"{self._shown(pairs)}: an image that only an arm has joins patients {_listed(sorted(anchors))}"
            " of the study, whom its splits may put into different parts. If they are one person, write"
            f" `same_patient: [[{', '.join(ids)}]]`; if not, `different_patients` with the ids of those whose"
            " images are alike, or leave the image out."
        )
        return Problem(self._where(ids), what)

    def _where(self, ids: Sequence[str]) -> str:
        return ", ".join(f"data.{name}" for name, has in self._patients.items() if not has.isdisjoint(ids))

    def _shown(self, pairs: Sequence[Likeness]) -> str:
        best = sorted(pairs, key=lambda pair: (-pair.correlation, pair.first, pair.second))
        told = "; ".join(
            f"{self._named(pair.first)} and {self._named(pair.second)} show one exposure"
            f" (correlation {pair.correlation:.3f})"
            for pair in best[:_SHOWN]
        )
        return f"{told}; {len(best) - _SHOWN} more pairs" if len(best) > _SHOWN else told

    def _named(self, member: Member) -> str:
        return f"{self._names[member]} ({member.patient})"


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(map(repr, ids))
