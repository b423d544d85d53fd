"""Which cases a stage trains and is evaluated on: each looked up and divided once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from xferlab.cohort import Case, Cohort, Part, Pseudonyms, Selection
from xferlab.data.sources.registry import DataSection
from xferlab.plan.division import rule_of, settled
from xferlab.plan.identity import canonical_json
from xferlab.study.load import LoadedStudy
from xferlab.study.schema import Study

Index = Callable[[str, DataSection], Sequence[Case]]


def without_patients(config: DataSection) -> dict[str, Any]:
    """Returns what a trial must know of a section; it knows cases by digest, and no patient."""
    return config.model_dump(mode="json", exclude={"same_patient", "different_patients"})


@dataclass(frozen=True)
class PartCases:
    """The cases of one or more parts of a section, stored as a selection.

    Attributes:
        digest: Its identity.
        units: Patients in it (images, where a study divides images).
        counts: Number of cases by part.
        missing: (part, pathology) of every class of the section that a part lacks.
    """

    digest: str
    units: frozenset[str]
    counts: Mapping[str, int]
    missing: tuple[tuple[str, str], ...]


class Labels(NamedTuple):
    """The share of the training patients that a stage keeps, of each stratum or of all together."""

    fraction: float
    stratified: bool = True


class CaseSelector:
    """The cases of a study and its arms, and their parts; caches make ten thousand trials cheap.

    Attributes:
        cohort: Patients of the sections of the study itself.
        loaded: The study, with the number of repetitions that its split has.
        selections: Every selection made so far, by digest.
    """

    def __init__(self, loaded: LoadedStudy, index: Index):
        """Takes the study, and what gives the cases of a section.

        Raises:
            StudyError: `split` does not fit the cases, or has another number of repetitions than the study.
        """
        base = loaded.base
        self._index = index
        self._sections: dict[str, tuple[str, DataSection, Sequence[Case]]] = {}
        self._recorded: dict[str, Mapping[str, Case]] = {}
        self._section_keys: dict[int, tuple[str, DataSection]] = {}
        self._parts: dict[int, dict[str, Part]] = {}
        self._chosen: dict[tuple[str, str, int, Labels | None], PartCases] = {}
        self.selections: dict[str, Selection] = {}
        cohort = Cohort(
            seed=base.seed,
            sections={name: self.cases(name, config) for name, config in base.data.items()},
            hold_out={name: config.hold_out for name, config in base.data.items() if config.hold_out},
            by_patient=base.split.group_by is not None,
        )
        self.cohort = replace(cohort, rule=rule_of(loaded, cohort))
        self.loaded = settled(loaded, self.cohort.rule)
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

    def select(
        self, name: str, config: DataSection, part: str, repetition: int, *, labels: Labels | None = None
    ) -> PartCases:
        """Returns the cases to train on (`part` is `fit`: training and validation) or to evaluate on.

        Args:
            name: The section.
            config: Its configuration.
            part: `fit`, or a part.
            repetition: From 1.
            labels: Which of the training patients to keep; None for all.
        """
        key = (self._section_key(name, config), part, 0 if part == "hold_out" else repetition, labels)
        if key not in self._chosen:
            self._chosen[key] = self._select(name, config, part, repetition, labels)
        return self._chosen[key]

    def _select(
        self, name: str, config: DataSection, part: str, repetition: int, labels: Labels | None
    ) -> PartCases:
        wanted = ("train", "validation") if part == "fit" else (part,)
        cases = [case for case in self.cases(name, config) if case.has_mask]
        parts = {case: self.part_of(repetition, case) for case in cases}
        kept = [case for case in cases if parts[case] in wanted]
        if labels is not None:
            trained = {self.cohort.unit(case) for case in kept if parts[case] == "train"}
            few = self.cohort.labelled(trained, labels.fraction, repetition, stratified=labels.stratified)
            kept = [case for case in kept if parts[case] != "train" or self.cohort.unit(case) in few]
        if part == "fit":
            selection = Selection.to_train(name, ((case, parts[case]) for case in kept))
        else:
            recorded = self.recorded(name, config)
            selection = Selection.to_evaluate(name, (recorded[case.digest] for case in kept))
        digest = selection.identity()
        self.selections[digest] = selection
        classes = {(wanted_part, case.pathology) for wanted_part in wanted for case in cases}
        missing = sorted(classes - {(parts[case], case.pathology) for case in kept})
        sizes = Counter[str](parts[case] for case in kept)
        counts = {wanted_part: sizes[wanted_part] for wanted_part in wanted}
        units = frozenset(self.cohort.unit(case) for case in kept)
        return PartCases(digest, units, counts, tuple(missing))

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
