"""Who is in each data section, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from xferlab.cohort import Case
from xferlab.data.sources.config import FileConfig
from xferlab.data.sources.registry import DataSection, open_source
from xferlab.data.sources.source import Source
from xferlab.errors import DataError, Problem, attempt
from xferlab.leakage.audit import Audited, audit
from xferlab.parallel import Progress


class StudyIndex:
    """The cases of a study and its arms, as planning asks for them: under persons, not ids.

    Attributes:
        audit: What comparing their images found.
        warnings: What looking at their tables found.
    """

    def __init__(
        self,
        own: Mapping[str, DataSection],
        *,
        arms: Mapping[str, Mapping[str, DataSection]] | None = None,
        memo_dir: Path,
        progress: Progress | None = None,
    ):
        """Looks at all sections; images that are new to this machine are decoded once.

        Args:
            own: The study's own sections by name, roots absolute.
            arms: The sections of each arm, by its name.
            memo_dir: Where digests of known files, and what is known of their images, are kept.
            progress: Called while new images are decoded.

        Raises:
            DataError: With all errors of all the study's own sections, or of the first bad one of an arm.
        """
        self._memo_dir = memo_dir
        self._found: dict[str, tuple[Problem, ...]] = {}
        self._sources = {
            _key(name, own[name]): source for name, source in open_sources(own, memo_dir).items()
        }
        sections = list(own.items())
        for arm, changed in (arms or {}).items():
            for name, config in changed.items():
                if _key(name, config) not in self._sources:
                    self._source(name, config, arm=arm)
                    sections.append((name, config))
        problems = (problem for source in self._sources.values() for problem in source.survey.problems)
        self.warnings = tuple(dict.fromkeys(problems))
        audited = [
            Audited(self._as_taken(name, config), own=own.get(name) == config)
            for name, config in sections
            if isinstance(config, FileConfig)
        ]
        self.audit = audit(audited, memo_dir=memo_dir, progress=progress)

    @property
    def unusable(self) -> dict[str, tuple[Problem, ...]]:
        """Case digest -> why its image or mask cannot be used, of the sections as they were asked for."""
        sources = list(self._sources.items()) if self.audit.unusable else []
        return dict(item for (name, _), source in sources for item in self._unusable(name, source))

    def __call__(self, name: str, config: DataSection) -> tuple[Case, ...]:
        """Returns the cases of a section.

        Raises:
            DataError: With all of its errors, where it is of neither the study nor its arms.
        """
        return self.audit.joined(self._source(name, config).survey.cases)

    def _source(self, name: str, config: DataSection, *, arm: str = "") -> Source:
        key = _key(name, config)
        if key not in self._sources:
            self._sources[key] = open_sources({name: config}, self._memo_dir, arm=arm)[name]
        return self._sources[key]

    def _as_taken(self, name: str, config: DataSection) -> Source:
        """The images that may be known, not what a simulated device or a section's steps make of them."""
        return self._source(name, config.as_taken())

    def _unusable(self, name: str, source: Source) -> Iterator[tuple[str, tuple[Problem, ...]]]:
        """Yields the digests of the cases of a section that cannot be used, and why.

        A reading of fewer structures than the section itself has may do without the mask that is at fault.
        """
        names = self._names_of_unusable
        for case in source.survey.cases:
            if case.digest in self.audit.unusable:
                yield case.digest, self.audit.unusable[case.digest]
            elif (name, case.name) in names and (problems := self._tried(source, case)):
                yield case.digest, problems

    @cached_property
    def _names_of_unusable(self) -> frozenset[tuple[str, str]]:
        """Section and name of what cannot be used in the sections as they stand in the study."""
        return frozenset(
            (name, case.name)
            for (name, _), source in self._sources.items()
            for case in source.survey.cases
            if case.digest in self.audit.unusable
        )

    def _tried(self, source: Source, case: Case) -> tuple[Problem, ...]:
        if case.digest not in self._found:
            result = attempt(source.decode, case)
            self._found[case.digest] = result.problems if isinstance(result, DataError) else ()
        return self._found[case.digest]


def open_sources(sections: Mapping[str, DataSection], memo_dir: Path, *, arm: str = "") -> dict[str, Source]:
    """Returns the sources of sections by name; no image is decoded, known files are not read.

    Args:
        sections: Data sections by name, roots absolute.
        memo_dir: Where digests of known files are kept between runs.
        arm: The arm whose sections they are, for messages.

    Raises:
        DataError: With all errors of all sections.
    """
    sources = {name: open_source(name, config, memo_dir=memo_dir) for name, config in sections.items()}
    problems = (problem for source in sources.values() for problem in source.survey.problems)
    errors = [replace(problem, arm=arm) for problem in problems if problem.severity == "error"]
    if errors:
        raise DataError(tuple(dict.fromkeys(errors)))  # sections may share a folder
    return sources


def _key(name: str, config: DataSection) -> tuple[str, str]:
    return name, config.model_dump_json()
