"""Which networks learned from the patient of an image: they take no part where an ensemble predicts it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from xferlab.cli.view import progress_bar
from xferlab.cohort import Case
from xferlab.data.cache import default_cache_dir
from xferlab.data.sources.config import FileConfig
from xferlab.data.sources.registry import DataSection, open_source, section_if_known
from xferlab.errors import DataError, attempt
from xferlab.leakage.index import StudyIndex, open_sources
from xferlab.plan.spec import TrialSpec
from xferlab.records import reader
from xferlab.records.store import Store


@dataclass(frozen=True)
class SeenPatients:
    """The patients of images, and those that trials learned from.

    Attributes:
        of_images: Patients of the images with some bytes, by the SHA-256 of these.
        of_trials: Patients of the training and validation cases of each trial, and of all that it descends
            from, by its id.
        num_cases: How many cases these trials learned from.
        num_unknown: Of how many of them the patient is not known here.
        why: What is wrong with the data of these, as far as something is.
    """

    of_images: Mapping[str, frozenset[str]]
    of_trials: Mapping[str, frozenset[str]]
    num_cases: int
    num_unknown: int
    why: str = ""

    @staticmethod
    def of(store: Store, trials: Sequence[str], declared: Mapping[str, DataSection]) -> SeenPatients:
        """Looks at the data of trials; images that are new to this machine are compared with all others.

        Args:
            store: Where the trials lie.
            trials: Their ids.
            declared: The sections of the study file, by name, where it is at hand: these say who is one
                person, which records do not, and where the data are now.

        Raises:
            RecordError: The spec of a trial, or a selection of cases, is missing or damaged.
        """
        lineages = {trial: list(_lineage(store, trial)) for trial in trials}
        specs = {spec.trial_id: spec for lineage in lineages.values() for spec in lineage}
        digests = {trial_id: _learned_from(store, spec) for trial_id, spec in specs.items()}
        cases, why = _cases(_sections(specs.values(), declared))
        of_images = defaultdict[str, set[str]](set)
        for case in cases:
            of_images[case.image_sha256].add(case.patient)
        of_images.pop("", None)  # drawn, not a file
        patients = {case.digest: case.patient for case in cases}
        every = frozenset[str]().union(*digests.values())
        return SeenPatients(
            {sha256: frozenset(names) for sha256, names in of_images.items()},
            {
                trial: frozenset(
                    patients[digest]
                    for spec in lineage
                    for digest in digests[spec.trial_id]
                    if digest in patients
                )
                for trial, lineage in lineages.items()
            },
            len(every),
            len(every - patients.keys()),
            why,
        )

    def unseen_by(self, sha256: str) -> tuple[str, ...]:
        """Returns the trials that learned from no patient of an image: all where its patient is not known."""
        patients = self.of_images.get(sha256, frozenset())
        return tuple(trial for trial, seen in self.of_trials.items() if patients.isdisjoint(seen))


def _lineage(store: Store, trial_id: str) -> Iterator[TrialSpec]:
    """Yields a trial and all that it takes anything from: also parents of which one was chosen."""
    visited, waiting = set[str](), [trial_id]
    while waiting:
        if (current := waiting.pop()) in visited:
            continue
        visited.add(current)
        spec = reader.required_spec(store, current)
        yield spec
        waiting += spec.parents


def _learned_from(store: Store, spec: TrialSpec) -> frozenset[str]:
    """The digests of all cases that a trial trains and selects with."""
    selections = (reader.read_selection(store, digest) for digest in spec.trained_selections)
    return frozenset(digest for selection in selections for digest in selection.digests)


def _sections(specs: Iterable[TrialSpec], declared: Mapping[str, DataSection]) -> list[DataSection]:
    """The sections that trials read, as they were recorded and as they are declared now, and all others."""
    sections = list(declared.values())
    for spec in specs:
        for key, value in spec.data.items():
            if (recorded := section_if_known(value)) is not None:
                for section in _readings(recorded, declared.get(key.partition("@")[0])):
                    if section not in sections:
                        sections.append(section)
    return sections


def _readings(recorded: DataSection, declared: DataSection | None) -> Iterator[DataSection]:
    """Yields a section with the structures that a trial reads: with others its cases have other digests."""
    if declared is None or declared.source != recorded.source:
        yield recorded
        return
    persons = {name: getattr(declared, name) for name in ("same_patient", "different_patients")}
    yield recorded.model_copy(update=persons)
    if set(recorded.targets) <= set(declared.markable):
        yield declared.reading(recorded.targets)  # its folder may have moved


def _cases(sections: Sequence[DataSection]) -> tuple[list[Case], str]:
    """The cases of sections under their persons, also those that a section leaves out, and what is wrong."""
    memo_dir = default_cache_dir() / "digests"
    named = {f"{section.source} {number}": section for number, section in enumerate(sections, start=1)}
    opened = {name: attempt(open_sources, {name: section}, memo_dir) for name, section in named.items()}
    errors = [result for result in opened.values() if isinstance(result, DataError)]
    readable = {name: named[name] for name, result in opened.items() if not isinstance(result, DataError)}
    with progress_bar("comparing images") as progress:
        index = StudyIndex(readable, memo_dir=memo_dir, progress=progress)
    cases = [case for name, section in readable.items() for case in index(name, section)]
    for name, section in readable.items():
        if section.where and isinstance(section, FileConfig):  # other images of the same patients
            whole = open_source(name, section.model_copy(update={"where": {}}), memo_dir=memo_dir)
            cases += index.audit.joined(whole.survey.cases)
    return cases, str(errors[0].problems[0]) if errors else ""
