"""The sets of cases beside the first that the trials of a stage learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from xferlab.cohort import single_sections
from xferlab.plan.selection import CaseSelector, Labels, PartCases, Reading, without_patients
from xferlab.plan.spec import LABELLED, OtherSet
from xferlab.study.schema import Study

_IMAGES = "#images"
"""Behind the name of a section: its configuration without masks."""


class Chosen(NamedTuple):
    """Another set with the cases that a repetition takes of it, and how they are read."""

    cases: OtherSet
    selected: PartCases
    reading: Reading


def labels_of(study: Study, stage: str, set_name: str = "") -> Labels | None:
    """Returns which of the labels of a set a stage reads; None for all."""
    own = study.stages[stage]
    fraction = own.fraction_of(set_name)
    return None if fraction is None else Labels(fraction, own.stratified, own.fraction_of_validation)


class OtherSets:
    """The other sets of one stage."""

    def __init__(self, study: Study, stage: str, read: Callable[[str, str], Reading]):
        """Takes the stage of a study, and what returns a section as a stage reads it."""
        self._study, self._stage = study, stage
        names = study.task_of(stage).sets[1:]
        sets = study.stages[stage].sets
        self._with_masks = {name: read(stage, sets[name]) for name in names}
        self._images = {
            name: replace(own, sections=tuple(section.reading(()) for section in own.sections))
            for name, own in self._with_masks.items()
        }

    @property
    def data(self) -> dict[str, dict[str, Any]]:
        """Configurations of sections that are read otherwise than by the name of the section alone."""
        return {
            key: without_patients(section)
            for name, reading in self._images.items()
            for key, section in zip(single_sections(self._source(name)), reading.sections, strict=True)
        }

    def _source(self, name: str) -> str:
        """Keys of the images of a set: those of its sections, where these are read without masks anyway."""
        same = self._images[name].sections == self._with_masks[name].sections
        return (
            self._with_masks[name].name
            if same
            else "+".join(f"{section}{_IMAGES}" for section in single_sections(self._with_masks[name].name))
        )

    def of(self, selector: CaseSelector, repetition: int) -> Iterator[Chosen]:
        """Yields the other sets of a repetition, the images of each before those whose masks are read."""
        for name, reading in self._images.items():
            selected = selector.select(reading, "fit", repetition)
            yield Chosen(OtherSet(name, reading.name, self._source(name), selected.digest), selected, reading)
            labels, with_masks = labels_of(self._study, self._stage, name), self._with_masks[name]
            if with_masks.sections[0].targets and (labels is None or labels.fraction):
                selected = selector.select(with_masks, "fit", repetition, labels=labels)
                cases = OtherSet(f"{name}.{LABELLED}", reading.name, reading.name, selected.digest)
                yield Chosen(cases, selected, with_masks)
