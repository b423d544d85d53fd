"""The leakage audit: one person under several patient ids, found before patients are divided.

Patients who share an exposure, or whose ids are spellings of one id, count as one person. All splits of all
stages keep a person in one part. Sections of files are compared within and with each other; phantoms are
different people by construction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, product
from pathlib import Path

from xferlab.cohort import Case
from xferlab.data.sources.filters import join_patients
from xferlab.data.sources.patients import as_yaml, person_key, spelled_alike
from xferlab.data.sources.source import Source
from xferlab.errors import DataError, Problem
from xferlab.leakage.comparisons import Member, Members, compare
from xferlab.leakage.image_matching import Pair
from xferlab.parallel import Progress

_SHOWN, _PASTED = 3, 20


@dataclass(frozen=True)
class Audited:
    """A section of files in the audit.

    Attributes:
        source: Where its images come from, before any device simulation.
        own: Whether the study itself has it, rather than an arm.
    """

    source: Source
    own: bool

    @property
    def same(self) -> Sequence[Sequence[str]]:
        """Groups of patients who are one person."""
        return self.source.config.same_patient

    @cached_property
    def different(self) -> Sequence[Sequence[str]]:
        """Groups of patients who are different people, whatever their images and ids suggest."""
        # In a survey, declared patients are under one id; who differs from one of them differs from all.
        same = join_patients(self.same)
        return [[same.get(id_, id_) for id_ in group] for group in self.source.config.different_patients]

    @property
    def cases(self) -> tuple[Case, ...]:
        """All cases, those that stand twice included."""
        return self.source.survey.cases + self.source.survey.doubled


@dataclass(frozen=True)
class Audit:
    """What the audit found.

    Attributes:
        persons: Patient id -> the id of the person, for patients that are joined.
        warnings: One for each person who is joined by images, and one for all who are joined by ids.
        summary: What a reader of the results should know; it names nobody.
        near: The pairs that look alike and were left apart because they differ in detail, for `check`.
        unusable: Case digest -> why its image or mask cannot be used.
    """

    persons: Mapping[str, str]
    warnings: tuple[Problem, ...] = ()
    summary: tuple[Problem, ...] = ()
    near: tuple[str, ...] = ()
    unusable: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)

    def joined(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Returns cases under their persons, by patient and name."""
        if self.persons.keys().isdisjoint(case.patient for case in cases):
            return tuple(cases)
        named = (replace(case, patient=self.persons.get(case.patient, case.patient)) for case in cases)
        return tuple(sorted(named, key=lambda case: (case.patient, case.name)))


def audit(sections: Sequence[Audited], *, memo_dir: Path, progress: Progress | None = None) -> Audit:
    """Joins the patients who share an exposure, found by comparing images, and the spellings of one id.

    Args:
        sections: All sections of files of the study and its arms.
        memo_dir: Where digests of known files are kept; what is found is remembered there, too.
        progress: Called while new images are decoded.

    Raises:
        DataError: An image or id that only an arm has would join two people of the study, whom splits may
            divide.
    """
    members: Members = {
        Member(case.digest, case.patient): (section.source, case)
        for section in sections
        for case in section.cases
    }
    pairs, failures = compare(members, memo_dir=memo_dir, progress=progress)
    own = {case.patient for section in sections if section.own for case in section.cases}
    shared = [pair for pair in pairs if pair.one_exposure and not _told_apart(_patients(pair), sections, own)]
    by_image = [_patients(pair) for pair in shared]
    own_spelled, _ = _spelled(own, [section for section in sections if section.own], own)
    inside = join_patients([*filter(own.issuperset, by_image), *own_spelled])
    everybody = {member.patient for member in members}
    spelled, unclear = _spelled(everybody, sections, own, joined=own_spelled)
    report = _Report(sections, members)
    persons: dict[str, str] = {}
    warnings, errors = [], []
    for group in _groups([*by_image, *spelled]):
        evidence = [pair for pair in shared if pair.first.patient in group]
        # The study's own patients keep the id that they have without any arm.
        anchors = {inside.get(patient, patient) for patient in group & own}
        person = min(anchors or group)
        persons.update(dict.fromkeys(group, person))
        if len(anchors) > 1:
            errors.append(report.refusal(evidence, group, anchors))
        elif evidence:
            warnings.append(report.warning(evidence, person))
    # An image may show whose the id is.
    unclear = {
        patient: others
        for patient, others in unclear.items()
        if persons.get(patient, patient) not in {persons.get(other, other) for other in others}
    }
    for patient, others in unclear.items():
        anchors = {inside.get(other, other) for other in others & own}
        if patient not in own and len(anchors) > 1:
            errors.append(report.refusal([], {patient, *others}, anchors))
    if errors:
        raise DataError(errors)
    if unclear:
        warnings.append(report.unclear(unclear))
    declared = join_patients(group for section in sections for group in section.same)
    spellings = [group for group in spelled if len({declared.get(id_, id_) for id_ in group}) > 1]
    if spellings:
        warnings.append(report.spellings(spellings))
    numbers = {"images": len(_groups(by_image)), "the spelling of their ids": len(spellings)}
    return Audit(
        persons,
        warnings=tuple(warnings),
        summary=tuple(_summary(evidence, number) for evidence, number in numbers.items() if number),
        near=tuple(report.pair(pair) for pair in sorted(pairs, key=_best_first) if not pair.one_exposure),
        unusable={digest: error.problems for digest, error in failures.items()},
    )


def _spelled(
    patients: Set[str], sections: Sequence[Audited], own: Set[str], *, joined: Iterable[Set[str]] = ()
) -> tuple[list[set[str]], dict[str, set[str]]]:
    """Groups of ids that are spellings of one, and ids that could belong to several different people.

    Args:
        patients: The ids.
        sections: Sections that may declare whose they are.
        own: The study's own ids.
        joined: Groups of ids that are known to belong to one person.

    Returns:
        The groups, which divide people whom the study declares different; and id -> one id of each of the
        people it could belong to, where these are declared different.
    """
    # An arm may declare ids one person if the study lacks one of them.
    same = (g for section in sections for g in section.same if section.own or not set(g) <= own)
    known = join_patients([*joined, *same])
    groups: list[set[str]] = []
    unclear: dict[str, set[str]] = {}
    for ids in spelled_alike(patients, key=person_key):
        persons: dict[str, set[str]] = defaultdict(set)
        for patient in ids:
            persons[known.get(patient, patient)].add(patient)
        different = _declared_different(persons, sections, own)
        # Without the unclear ones, those who differ from the same people are one person.
        parts: dict[frozenset[str], set[str]] = defaultdict(set)
        for person, spellings in persons.items():
            possible = different.keys() - different.get(person, set()) - {person}
            others = {other for other in possible if not different[other].isdisjoint(possible)}
            if others:
                unclear[min(spellings)] = {min(persons[other]) for other in others}
                groups.append(spellings)
            else:
                parts[frozenset(different.get(person, ()))] |= spellings
        groups += parts.values()
    return [group for group in groups if len(group) > 1], unclear


def _declared_different(
    persons: Mapping[str, Set[str]], sections: Sequence[Audited], own: Set[str]
) -> dict[str, set[str]]:
    """Person -> those whom the study declares different; `persons` gives the ids of each."""
    named = {patient for section in sections for group in section.different for patient in group}
    different: dict[str, set[str]] = defaultdict(set)
    for first, second in combinations((person for person, ids in persons.items() if ids & named), 2):
        if any(_told_apart(pair, sections, own) for pair in product(persons[first], persons[second])):
            different[first].add(second)
            different[second].add(first)
    return dict(different)


def _summary(evidence: str, number: int) -> Problem:
    persons = _counted(number, "person has", "persons have")
    return Problem(
        "data", f"judging by {evidence}, {persons} several patient ids; each counts as one patient", "warning"
    )


def _best_first(pair: Pair[Member]) -> tuple[float, Member, Member]:
    return -pair.detail, pair.first, pair.second


def _patients(pair: Pair[Member]) -> tuple[str, str]:
    return pair.first.patient, pair.second.patient


def _told_apart(pair: tuple[str, str], sections: Sequence[Audited], own: Set[str]) -> bool:
    """Whether the study declares two ids different. An arm may do so if the study lacks one of them."""
    ids = set(pair)
    heard = (section for section in sections if section.own or not ids <= own)
    return any(ids.issubset(group) for section in heard for group in section.different)


def _groups(joined: Iterable[Iterable[str]]) -> list[set[str]]:
    groups: dict[str, set[str]] = defaultdict(set)
    for patient, first in join_patients(joined).items():
        groups[first].add(patient)
    return [groups[first] for first in sorted(groups)]


class _Report:
    def __init__(self, sections: Sequence[Audited], members: Members):
        self._patients = {
            section.source.name: {case.patient for case in section.cases} for section in sections
        }
        self._names = {member: case.name for member, (_, case) in members.items()}

    def pair(self, pair: Pair[Member]) -> str:
        """One pair with its figures."""
        return (
            f"{self._named(pair)}: half of their detail correlates by {pair.agreement:.2f} or more,"
            f" the best quarter by {pair.detail:.2f}"
        )

    def warning(self, pairs: Sequence[Pair[Member]], person: str) -> Problem:
        """What is said where patients are joined."""
        ids = sorted({patient for pair in pairs for patient in _patients(pair)})
        return Problem(
            self._where(ids),
            f"{self._shown(pairs)}: patients {_listed(ids)} count as one person, {person!r}, and stay in one"
            f" part of every split. Confirm it with `same_patient: [{as_yaml(ids)}]`; if they are different"
            f" people, write `different_patients: [{as_yaml(ids)}]`.",
            "warning",
            "persons joined by their images",
        )

    def spellings(self, groups: Sequence[Set[str]]) -> Problem:
        """What is said of all persons whose ids are spelled in several ways."""
        ids = [sorted(group) for group in groups]
        of_all = f" (the first {_PASTED} of {len(ids)})" if len(ids) > _PASTED else ""
        return Problem(
            self._where([patient for group in ids for patient in group]),
            f"{_counted(len(ids), 'person has', 'persons have')} several patient ids that probably differ in"
            f" spelling only ({_first([_listed(group) for group in ids])}). Each counts as one person,"
            " who stays in one part of every split. If that is right, declare it with"
            f" `same_patient: [{', '.join(map(as_yaml, ids[:_PASTED]))}]`{of_all}; list ids of different"
            " people under `different_patients` in the same way.",
            "warning",
        )

    def unclear(self, candidates: Mapping[str, Set[str]]) -> Problem:
        """What is said of ids that could belong to several people."""
        several = [(patient, sorted(others)) for patient, others in sorted(candidates.items())]
        shown = [f"{patient!r} ({_listed(others[:-1])} or {others[-1]!r})" for patient, others in several]
        first, others = several[0]
        return Problem(
            self._where([id_ for patient, ids in several for id_ in (patient, *ids)]),
            f"{_counted(len(several), 'patient id', 'patient ids')} could belong to any of several people who"
            f" are declared different: {_first(shown)}. {'It counts' if len(several) == 1 else 'Each counts'}"
            " as a person of its own, so splits may put images of one person into different parts. Declare"
            f" whose it is with `same_patient: [{as_yaml([first, others[0]])}]`, for example, or that it is"
            f" somebody else's with `different_patients: [{as_yaml([first, *others])}]`.",
            "warning",
        )

    def refusal(self, pairs: Sequence[Pair[Member]], group: Set[str], anchors: Set[str]) -> Problem:
        """What is said where an arm's image or id joins people whom the study's splits may divide."""
        cause = f"{self._shown(pairs)}: an image" if pairs else "an id"
        return Problem(
            self._where(group),
            f"{cause} that only an arm has joins patients {_listed(sorted(anchors))} of the study, whom its"
            " splits may put into different parts. If they are one person, write"
            f" `same_patient: [{as_yaml(sorted(group))}]`; if not, list those who are different people under"
            " `different_patients`, or leave the image out.",
        )

    def _where(self, ids: Iterable[str]) -> str:
        return ", ".join(f"data.{name}" for name, has in self._patients.items() if not has.isdisjoint(ids))

    def _shown(self, pairs: Sequence[Pair[Member]]) -> str:
        best = sorted(pairs, key=_best_first)
        return _first(
            [f"{self._named(pair)} show one exposure (correlation {pair.detail:.3f})" for pair in best],
            " pairs",
        )

    def _named(self, pair: Pair[Member]) -> str:
        first, second = (f"{self._names[member]} ({member.patient})" for member in (pair.first, pair.second))
        return f"{first} and {second}"


def _first(texts: Sequence[str], what: str = "") -> str:
    """The first texts, and the number of the others."""
    more = [f"{len(texts) - _SHOWN} more{what}"] if len(texts) > _SHOWN else []
    return "; ".join([*texts[:_SHOWN], *more])


def _counted(number: int, singular: str, plural: str) -> str:
    return f"{number} {singular if number == 1 else plural}"


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(map(repr, ids))
