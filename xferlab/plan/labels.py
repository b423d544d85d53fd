"""Which classes the stages of a study learn, with what only the data tell: their values and numbers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from xferlab.cohort import Case, Labelling, single_sections
from xferlab.data.sources.registry import DataSection
from xferlab.errors import Problem, StudyError, suggest
from xferlab.study.heads import heads
from xferlab.study.load import LoadedStudy
from xferlab.study.schema import Study
from xferlab.study.sections import paths_of, sections_read
from xferlab.study.stage import MAX_SEVERAL, Classes
from xferlab.study.yaml_lines import KeyPath
from xferlab.tasks.task import Finding

Cases = Callable[[str, DataSection], Sequence[Case]]
WITHOUT_CLASS = "images that are in no class of a stage"
_SHOWN = 12


@dataclass(frozen=True)
class ClassCounts:
    """How many images of a data section have each class of a stage.

    Attributes:
        stage: Its name.
        section: The section.
        column: Of the values.
        classes: Number of images by class, in the order of the labels.
        others: Number of images by value that is in no class; these take no part.
        arms: The arms in which they are so many; empty for all.
    """

    stage: str
    section: str
    column: str
    classes: Mapping[str, int] = field(hash=False)
    others: Mapping[str, int] = field(hash=False)
    arms: tuple[str, ...] = ()

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {number}" for name, number in self.classes.items())
        others = f"; in no class: {_numbers(self.others)}" if self.others else ""
        return f"{in_arms(self.arms)}stage {self.stage}, data.{self.section}, {self.column}: {listed}{others}"

    def warning(self) -> Problem:
        """Returns what takes no part."""
        number = sum(self.others.values())
        what = (
            f"{in_arms(self.arms)}stage {self.stage!r} leaves out {number} images that are in no class, by "
            f"{self.column}: {_numbers(self.others)}"
        )
        return Problem(f"data.{self.section}", what, "warning", WITHOUT_CLASS)


def in_arms(arms: Collection[str]) -> str:
    """Returns how a sentence begins that holds for these arms; empty for none, which stands for all."""
    return f"arm{'' if len(arms) == 1 else 's'} {', '.join(map(repr, arms))}: " if arms else ""


def _numbers(others: Mapping[str, int]) -> str:
    shown = [f"{value!r} {number}" if value else f"empty {number}" for value, number in others.items()]
    more = [f"{len(shown) - _SHOWN} more values"] if len(shown) > _SHOWN else []
    return ", ".join([*shown[:_SHOWN], *more])


def with_classes(loaded: LoadedStudy, cases: Cases) -> tuple[LoadedStudy, tuple[ClassCounts, ...]]:
    """Returns a study whose stages name all classes that they learn, and how many images each has.

    Args:
        loaded: The study.
        cases: Gives the cases of a section.

    Raises:
        StudyError: A column does not exist or names files, a class has no image, a value is in two classes,
            or one image has two.
    """
    problems: dict[Problem, None] = {}
    counts: dict[ClassCounts, tuple[str, ...]] = {}
    studies = {"": loaded.base, **loaded.arms}
    for arm, study in studies.items():
        for name, stage in study.stages.items():
            classes = study.classes_of(name)
            if stage.section is None or classes is None:
                continue
            labelled = _Labelled(study, name, stage.section, classes, cases)
            found = [loaded.problem(arm, finding) for finding in labelled.findings()]
            problems |= dict.fromkeys(found)
            if not found:
                changed = stage.model_copy(update={"classes": labelled.named})
                studies[arm] = studies[arm].model_copy(
                    update={"stages": {**studies[arm].stages, name: changed}}
                )
                for count in labelled.counts() if arm else ():
                    counts[count] = (*counts.get(count, ()), arm)
    taken = [
        loaded.problem(arm, finding)
        for arm, study in studies.items()
        for name, stage in study.stages.items()
        for finding in heads(study, name, stage)
    ]
    problems |= dict.fromkeys(problem for problem in taken if problem.severity == "error")
    if problems:
        raise StudyError(tuple(problems))
    base, warnings = studies.pop(""), tuple(dict.fromkeys((*loaded.warnings, *taken)))
    named = (replace(count, arms=() if len(arms) == len(studies) else arms) for count, arms in counts.items())
    return replace(loaded, base=base, arms=studies, warnings=warnings), tuple(named)


@dataclass(frozen=True)
class _Labelled:
    """A stage that learns labels.

    Attributes:
        study: Its study.
        name: Of the stage.
        section: What it trains on.
        classes: What it says of the classes.
        cases: Gives the cases of a section.
    """

    study: Study
    name: str
    section: str
    classes: Classes
    cases: Cases

    @cached_property
    def read(self) -> dict[str, Sequence[Case]]:
        """The cases of the sections that it trains or is evaluated on."""
        sections = sections_read(self.study, self.name, self.study.stages[self.name])
        return {name: self.cases(name, self.study.section_of(self.name, name)) for name in sections}

    @cached_property
    def trained(self) -> list[Case]:
        """The cases of the sections that it trains on."""
        return [case for name in single_sections(self.section) for case in self.read[name]]

    @cached_property
    def named(self) -> Classes:
        """The classes with their names; where none are given, the values of the cases that it trains on."""
        if self.classes.names is not None:
            return self.classes
        cells = {case.columns[self.classes.column] for case in self.trained}
        values = sorted({value for cell in cells for value in self.classes.labelling.values_of(cell)} - {""})
        return self.classes.model_copy(update={"names": {value: [value] for value in values}})

    def counts(self) -> Iterator[ClassCounts]:
        """Yields how many images of each section have each class."""
        labelling, column = self.named.labelling, self.classes.column
        for name, cases in self.read.items():
            labels = labelling.labels(cases)
            numbers = Counter(class_ for label in labels.values() for class_ in labelling.names_of(label))
            classes = {class_: numbers[class_] for class_ in labelling.names}
            others = Counter(case.columns[column] for case in cases if case.digest not in labels)
            yield ClassCounts(self.name, name, column, classes, dict(sorted(others.items())))

    def findings(self) -> Iterator[Finding]:
        """Yields what is wrong; of the classes only where each section has the column."""
        columns = list(self._columns())
        yield from columns or (
            replace(finding, related=paths_of(self.section)) for finding in self._classes()
        )

    def _path(self, field: str) -> KeyPath:
        is_written = self.study.stages[self.name].classes is not None
        return ("stages", self.name, "classes", field) if is_written else ("stages", self.name, "data")

    def _columns(self) -> Iterator[Finding]:
        column = self.classes.column
        for name, cases in self.read.items():
            naming = self.study.data[name].naming_columns
            accepted = sorted({known for case in cases for known in case.columns} - set(naming))
            listed = f"(columns of classes: {', '.join(accepted) or 'none'}).{suggest(column, accepted)}"
            related = (("data", name),)
            if column in naming:
                what = (
                    f"stage {self.name!r}: column {column!r} of data.{name} names people or files, and "
                    f"records would hold these names {listed}"
                )
                yield Finding(self._path("column"), what, related=related)
            elif column not in accepted:
                what = f"stage {self.name!r}: data.{name} has no column {column!r} {listed}"
                yield Finding(self._path("column"), what, related=related)

    def _classes(self) -> Iterator[Finding]:
        column, labelling = self.classes.column, self.named.labelling
        cells = Counter(case.columns[column] for case in self.trained)
        if self.classes.names is None:
            yield from self._unnamed(len(labelling.names), len(self.trained))
        for cell in sorted(cells):
            names = labelling.classes_of(cell)
            if len(names) > 1 and not labelling.separator:
                what = f"stage {self.name!r}: the value {cell!r} is in the classes {' and '.join(names)}"
                yield Finding(self._path("names"), what)
        there = {name for cell in cells for name in labelling.classes_of(cell)}
        for name, values in labelling.classes:
            if name not in there:
                known = {value for cell in cells for value in labelling.values_of(cell)}
                listed = ", ".join(map(repr, sorted(known)[:_SHOWN]))
                what = (
                    f"stage {self.name!r}: no image of data.{self.section} is in class {name!r}; column "
                    f"{column!r} has {listed}.{suggest(str(values[0]), known)}"
                )
                yield Finding(self._path("names"), what)
        yield from self._contradictions(labelling)

    def _unnamed(self, number: int, num_cases: int) -> Iterator[Finding]:
        """What is wrong with a class for each value."""
        column = self.classes.column
        if number < 2:
            what = f"column {column!r} has {number} value{'' if number == 1 else 's'} in data.{self.section}"
            yield Finding(self._path("column"), f"stage {self.name!r}: {what}; to tell classes takes two")
        elif 2 * number > num_cases or (self.classes.separator and number > MAX_SEVERAL):
            what = (
                f"stage {self.name!r}: column {column!r} has {number} values for {num_cases} images; group "
                "them (`names`), or give a column of classes"
            )
            yield Finding(self._path("column"), what)

    def _contradictions(self, labelling: Labelling) -> Iterator[Finding]:
        """Images that stand in several sections of a set with different labels."""
        labels: dict[str, dict[int, str]] = defaultdict(dict)
        for name in single_sections(self.section):
            for digest, label in labelling.labels(self.read[name]).items():
                labels[digest].setdefault(label, name)
        several = [sections for sections in labels.values() if len(sections) > 1]
        if several:
            listed = ", ".join(
                f"{' and '.join(labelling.names_of(label))!r} in data.{name}"
                for label, name in several[0].items()
            )
            what = (
                f"stage {self.name!r}: {len(several)} images stand in several sections under different "
                f"classes, such as {listed}; give each image one class"
            )
            yield Finding(self._path("column"), what)
