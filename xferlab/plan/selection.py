"""Which cases a stage trains and is evaluated on: each looked up and divided once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from xferlab.cohort import Case, Cohort, Labelling, Part, Pseudonyms, Selection, single_sections
from xferlab.data.sources.registry import DataSection, told
from xferlab.plan.division import rule_of, settled
from xferlab.plan.identity import canonical_json, sha256_of
from xferlab.plan.labels import with_classes
from xferlab.study.compose import NAMES_OF_PATIENTS
from xferlab.study.load import LoadedStudy
from xferlab.study.schema import Study
from xferlab.study.tuned import Tuned

Index = Callable[[str, DataSection], Sequence[Case]]


def without_patients(config: DataSection) -> dict[str, Any]:
    """Returns what a trial must know of a section; it knows cases by digest, and no patient."""
    return told(config, without=NAMES_OF_PATIENTS)


@dataclass(frozen=True)
class Reading:
    """A data section, or several as one set of cases, as a stage reads it.

    Attributes:
        name: `a`, or `a+b`.
        sections: The configuration of each section.
        labelling: The classes; cases without one take no part. None where labels are not read.
    """

    name: str
    sections: tuple[DataSection, ...]
    labelling: Labelling | None = None

    @staticmethod
    def of(study: Study, stage: str, name: str) -> Reading:
        """Returns what a stage of a study reads under a name."""
        classes = study.classes_of(stage)
        sections = tuple(study.section_of(stage, section) for section in single_sections(name))
        return Reading(name, sections, classes.labelling if classes else None)

    @property
    def named(self) -> list[tuple[str, DataSection]]:
        """Name and configuration of each section."""
        return list(zip(single_sections(self.name), self.sections, strict=True))


@dataclass(frozen=True)
class PartCases:
    """The cases of one or more parts of a section or set, stored as a selection.

    Attributes:
        digest: Its identity.
        units: Patients in it (images, where a study divides images).
        counts: Number of cases by part.
        missing: (part, pathology) of every pathology of the section that a part lacks.
        missing_labels: (part, class) of every class that a part lacks, where labels are read.
    """

    digest: str
    units: frozenset[str]
    counts: Mapping[str, int]
    missing: tuple[tuple[str, str], ...]
    missing_labels: tuple[tuple[str, str], ...] = ()


def _missing(
    kinds: Iterable[str], kept: Mapping[str, Iterable[Case]], kinds_of: Callable[[Case], Iterable[str]]
) -> tuple[tuple[str, str], ...]:
    """Every part and kind of case of which no case is kept, given the kept cases by part."""
    there = {part: {kind for case in cases for kind in kinds_of(case)} for part, cases in kept.items()}
    return tuple((part, kind) for part in kept for kind in sorted(set(kinds) - there[part]))


class Labels(NamedTuple):
    """The share of the training patients that a stage keeps, of each stratum or of all together.

    Where `of_validation`, the same share of the validation patients, too.
    """

    fraction: float
    stratified: bool = True
    of_validation: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of which it keeps a share."""
        return ("train", "validation") if self.of_validation else ("train",)


class CaseSelector:
    """The cases of a study and its arms, and their parts; caches make ten thousand trials cheap.

    Attributes:
        cohort: Patients of the sections of the study itself.
        loaded: The study, with the number of repetitions that its split has, and with named classes.
        classes: How many images of each section have each class of the stages that learn labels.
        selections: Every selection made so far, by digest.
    """

    def __init__(self, loaded: LoadedStudy, index: Index):
        """Takes the study, and what gives the cases of a section.

        Raises:
            StudyError: `split` or `classes` do not fit the cases, or the split has another number of
                repetitions than the study.
        """
        base = loaded.base
        self._index = index
        self._sections: dict[str, tuple[str, DataSection, Sequence[Case]]] = {}
        self._recorded: dict[str, Mapping[str, Case]] = {}
        self._section_keys: dict[int, tuple[str, DataSection]] = {}
        self._parts: dict[int, dict[str, Part]] = {}
        self._chosen: dict[tuple[str, str, int, Labels | None], PartCases] = {}
        self._keys: dict[int, tuple[str, Reading]] = {}
        self._read: dict[str, dict[str, Case]] = {}
        self._by_part: dict[tuple[str, int], dict[str, list[Case]]] = {}
        self._units: dict[str, dict[str, str]] = {}
        self._section_of: dict[str, dict[str, str]] = {}
        self.selections: dict[str, Selection] = {}
        cohort = Cohort(
            seed=base.seed,
            sections={name: self.cases(name, config) for name, config in base.data.items()},
            hold_out={name: config.hold_out for name, config in base.data.items() if config.hold_out},
            by_patient=base.split.group_by is not None,
        )
        self.cohort = replace(cohort, rule=rule_of(loaded, cohort))
        self.loaded, self.classes = with_classes(settled(loaded, self.cohort.rule), self.cases)
        private = (cases for name, cases in self.cohort.sections.items() if not base.data[name].shareable)
        self._pseudonyms = Pseudonyms(case for cases in private for case in cases)

    def _section_key(self, name: str, config: DataSection) -> str:
        # id() is safe as a key, since the configuration is kept alive here.
        if id(config) not in self._section_keys:
            fields = config.model_dump(mode="json", exclude={"hold_out", "note"})
            self._section_keys[id(config)] = f"{name}\x1f{canonical_json(fields)}", config
        return self._section_keys[id(config)][0]

    def cases(self, name: str, config: DataSection) -> Sequence[Case]:
        """Returns the cases of a section; a configuration is looked at once."""
        key = self._section_key(name, config)
        if key not in self._sections:
            self._sections[key] = (name, config, self._index(name, config))
        return self._sections[key][2]

    def recorded(self, name: str, config: DataSection) -> Mapping[str, Case]:
        """Returns a section's cases as records know them, by digest: under pseudonyms unless shareable."""
        key = self._section_key(name, config)
        if key not in self._recorded:
            cases = self.cases(name, config)
            by_digest = {case.digest: case for case in cases}
            self._recorded[key] = by_digest if config.shareable else self._pseudonyms.hide(cases)
        return self._recorded[key]

    def part_of(self, repetition: int, case: Case) -> Part:
        """Returns the part of a case's unit, whether the study has it or only an arm (see `strangers`)."""
        if repetition not in self._parts:
            self._parts[repetition] = self.cohort.parts(repetition)
        parts = self._parts[repetition]
        unit = self.cohort.unit(case)
        if unit not in parts:
            part = self.cohort.part_of_added(unit, repetition)
            assert part is not None, "an arm with strangers is not expanded"
            parts[unit] = part
        return parts[unit]

    @cached_property
    def hold_outs(self) -> dict[str, str]:
        """Returns a digest of the held-out images of every section of the study that has any."""
        held_out = self.cohort.held_out()
        return {
            name: sha256_of(digests)
            for name, cases in self.cohort.sections.items()
            if (digests := sorted(case.digest for case in cases if self.cohort.unit(case) in held_out))
        }

    def same_hold_outs(self, search: Tuned) -> list[str]:
        """Returns the sections of which a search held the same images out: it saw none of these patients."""
        return [name for name, digest in self.hold_outs.items() if digest in search.held_out.values()]

    def strangers(self, study: Study) -> dict[str, int]:
        """Returns by section how many units an arm has to which the split can give no part."""
        if self.cohort.part_of_added("", 1) is not None:
            return {}
        known = {self.cohort.unit(case) for cases in self.cohort.sections.values() for case in cases}
        base = self.loaded.base.data
        added = {
            name: {self.cohort.unit(case) for case in self.cases(name, config)} - known
            for name, config in study.data.items()
            if base.get(name) != config
        }
        return {name: len(units) for name, units in added.items() if units}

    def _key(self, reading: Reading) -> str:
        if id(reading) not in self._keys:
            sections = [self._section_key(name, config) for name, config in reading.named]
            self._keys[id(reading)] = "\x1e".join([*sections, repr(reading.labelling)]), reading
        return self._keys[id(reading)][0]

    def read(self, reading: Reading) -> dict[str, Case]:
        """Returns the cases that take part, by digest; one that stands in several sections is the first's."""
        key = self._key(reading)
        if key not in self._read:
            sections = [self.cases(name, config) for name, config in reading.named]
            cases = {case.digest: case for section in reversed(sections) for case in section if case.has_mask}
            labels = cases if reading.labelling is None else reading.labelling.labels(cases.values())
            self._read[key] = {digest: cases[digest] for digest in labels}
        return self._read[key]

    def units(self, reading: Reading) -> dict[str, str]:
        """Returns the unit of every case that takes part, by its digest."""
        key = self._key(reading)
        if key not in self._units:
            self._units[key] = {digest: self.cohort.unit(case) for digest, case in self.read(reading).items()}
        return self._units[key]

    def sections_of(self, reading: Reading) -> dict[str, str]:
        """Returns the section of every case that takes part, by its digest; of several, the first."""
        key = self._key(reading)
        if key not in self._section_of:
            named = [(name, self.cases(name, config)) for name, config in reading.named]
            self._section_of[key] = {
                case.digest: name for name, cases in reversed(named) for case in cases if case.has_mask
            }
        return self._section_of[key]

    def units_of(self, reading: Reading, selected: PartCases) -> dict[str, str]:
        """Returns the unit of every selected case, by its digest."""
        units = self.units(reading)
        return {digest: units[digest] for digest in self.selections[selected.digest].digests}

    def recorded_of(self, reading: Reading) -> dict[str, Case]:
        """Returns cases as records know them, by digest; the names of a private section's stay private."""
        named = sorted(reading.named, key=lambda section: section[1].shareable)
        recorded = [self.recorded(name, config) for name, config in reversed(named)]
        return {digest: case for cases in recorded for digest, case in cases.items()}

    def select(
        self, reading: Reading, part: str, repetition: int, *, labels: Labels | None = None
    ) -> PartCases:
        """Returns the cases to train on (`part` is `fit`: training and validation) or to evaluate on.

        Args:
            reading: The section or set.
            part: `fit`, or a part.
            repetition: From 1.
            labels: Which of the training patients to keep; None for all.
        """
        key = (self._key(reading), part, 0 if part == "hold_out" else repetition, labels)
        if key not in self._chosen:
            self._chosen[key] = self._select(reading, part, repetition, labels)
        return self._chosen[key]

    def _select(self, reading: Reading, part: str, repetition: int, labels: Labels | None) -> PartCases:
        wanted = ("train", "validation") if part == "fit" else (part,)
        by_part = self._divided(reading, repetition)
        kept = {each: self._kept(by_part[each], each, repetition, labels) for each in wanted}
        kinds = {case.pathology for cases in by_part.values() for case in cases}
        return PartCases(
            self._stored(reading, kept, to_train=part == "fit"),
            frozenset(self.cohort.unit(case) for cases in kept.values() for case in cases),
            {each: len(cases) for each, cases in kept.items()},
            _missing(kinds, kept, lambda case: (case.pathology,)),
            self._missing_labels(reading, kept),
        )

    def _divided(self, reading: Reading, repetition: int) -> dict[str, list[Case]]:
        """The cases that take part, by part; divided once for all that is trained and evaluated on."""
        key = self._key(reading), repetition
        if key not in self._by_part:
            by_part = self._by_part[key] = defaultdict(list)
            for case in self.read(reading).values():
                by_part[self.part_of(repetition, case)].append(case)
        return self._by_part[key]

    def _kept(self, cases: list[Case], part: str, repetition: int, labels: Labels | None) -> list[Case]:
        """Those of the cases of a part that are read: labels may keep a share of the units."""
        if labels is None or part not in labels.parts:
            return cases
        units = map(self.cohort.unit, cases)
        few = self.cohort.labelled(units, labels.fraction, repetition, stratified=labels.stratified)
        return [case for case in cases if self.cohort.unit(case) in few]

    def _missing_labels(
        self, reading: Reading, kept: Mapping[str, Sequence[Case]]
    ) -> tuple[tuple[str, str], ...]:
        if reading.labelling is None:
            return ()
        labels = reading.labelling.labels(case for cases in kept.values() for case in cases)
        names_of = reading.labelling.names_of
        return _missing(reading.labelling.names, kept, lambda case: names_of(labels[case.digest]))

    def _stored(self, reading: Reading, kept: Mapping[str, Sequence[Case]], *, to_train: bool) -> str:
        """The digest of the selection of cases by part, which is noted."""
        parts = [(case, part) for part, cases in kept.items() for case in cases]
        labels = reading.labelling.labels(case for case, _ in parts) if reading.labelling else None
        if to_train:
            selection = Selection.to_train(reading.name, parts, labels)
        else:
            recorded = self.recorded_of(reading)
            evaluated = (recorded[case.digest] for case, _ in parts)
            selection = Selection.to_evaluate(reading.name, evaluated, labels)
        digest = selection.identity()
        self.selections[digest] = selection
        return digest

    def without(self, reading: Reading, selected: PartCases, units: frozenset[str]) -> PartCases:
        """Returns cases to train and to select with, without those of some training units."""
        unit_of, chosen = self.units(reading), self.selections[selected.digest]
        rows = tuple(row for row in chosen.rows if row[1] != "train" or unit_of[row[0]] not in units)
        fewer = Selection(chosen.section, rows)
        digest = fewer.identity()
        self.selections[digest] = fewer
        counts = {part: sum(row[1] == part for row in rows) for part in selected.counts}
        return PartCases(digest, frozenset(unit_of[row[0]] for row in rows), counts, ())

    def listed(self) -> Iterator[tuple[str, Case, Case]]:
        """Yields section, case, and case as records know it, of all sections of the study and its arms."""
        for name, config, cases in self._sections.values():
            recorded = self.recorded(name, config)
            yield from ((name, case, recorded[case.digest]) for case in cases)

    def straddling(self) -> dict[str, tuple[int, int]]:
        """Returns by section: patients that are in several parts of repetition 1, and all patients."""
        counts = {}
        for name, cases in self.cohort.sections.items():
            parts: dict[str, set[Part]] = defaultdict(set)
            for case in cases:
                parts[case.patient].add(self.part_of(1, case))
            counts[name] = (sum(len(several) > 1 for several in parts.values()), len(parts))
        return counts
