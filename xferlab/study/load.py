"""From a study file to validated studies: the base and every arm, with all problems and their lines."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from xferlab.errors import Problem, StudyError, suggest
from xferlab.study.check import check, pairing, unused
from xferlab.study.compose import Draft, Library
from xferlab.study.editors import StudyFile, Variants
from xferlab.study.findings import Report, as_yaml, validated
from xferlab.study.paths import dotted, replaced, without
from xferlab.study.repetitions import unfinished_repeats, with_repetitions
from xferlab.study.roles import of_other_arms
from xferlab.study.schema import Study
from xferlab.study.tuned import Tuned
from xferlab.study.views import predicted
from xferlab.study.yaml_lines import Document, KeyPath, read
from xferlab.tasks.task import Finding

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_FILES = (("storage",), ("split", "file"), ("data", "root"), ("stages", "weights", "path"))
"""Fields that name files or folders; the names of sections and stages are left out."""


@dataclass(frozen=True)
class LoadedStudy:
    """A study that is ready to be planned.

    Attributes:
        path: The file.
        profile: Name of the profile that was applied, if any.
        base: The study without the overrides of any arm. Every trained stage has `repetitions`; roots, paths
            of weights and a storage that is not a URI are absolute.
        arms: Each arm as a study of its own, in file order; a file without arms has the arm `baseline`.
        drafts: The origin of the fields of each arm; under an empty name, of those of the base.
        warnings: Possible mistakes, each with its line.
        profiles: Names of all profiles of the file.
    """

    path: Path
    profile: str | None
    base: Study
    arms: Mapping[str, Study]
    drafts: Mapping[str, Draft] = field(repr=False, compare=False)
    warnings: tuple[Problem, ...] = ()
    profiles: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"LoadedStudy({self.base.study!r} of {self.path}: arms {', '.join(self.arms)})"

    @cached_property
    def overrides(self) -> dict[str, dict[str, Any]]:
        """What each arm changes, with what it includes: dotted path -> value."""
        return {
            arm: {".".join(override.path): override.value for override in draft.overrides}
            for arm, draft in self.drafts.items()
            if arm
        }

    @cached_property
    def tuned(self) -> dict[str, tuple[Tuned, ...]]:
        """The searches that arms come from, for the arms that come from any."""
        return {arm: draft.tuned for arm, draft in self.drafts.items() if draft.tuned}

    @cached_property
    def priorities(self) -> dict[str, int]:
        """The arms that have a priority: those of a higher one run first, those of none have 0."""
        return {arm: draft.priority for arm, draft in self.drafts.items() if arm and draft.priority}

    def problem(self, arm: str, finding: Finding) -> Problem:
        """Returns a problem at the line that causes it: in the arm, else in the profile, else in the study.

        Args:
            arm: Name of the arm that it was found in; empty for the base.
            finding: The problem without its line.
        """
        draft = self.drafts.get(arm, self.drafts[""])
        while draft.parent is not None and draft.cause(finding) is None:
            draft = draft.parent
        return Problem(draft.where(finding), draft.prefix + finding.what, finding.severity)

    def locate(self, problem: Problem) -> Problem:
        """Returns a problem about data or weights with the line of its field, if it is about a field.

        Args:
            problem: Its `where` is the field (`data.general.where`) or the file or folder that the field
                names; without an arm, the first that has this field is meant, the base before all.
        """
        for arm in [problem.arm] if problem.arm else self._fields:
            path = self._fields[arm].get(problem.where)
            if path is not None:
                value = "" if problem.where == dotted(path) else f"{problem.where}: "
                what = f"{dotted(path)}: {value}{problem.what}"
                return replace(self.problem(arm, Finding(path, what, problem.severity)), kind=problem.kind)
        return replace(problem, what=f"arm {problem.arm!r}: {problem.what}") if problem.arm else problem

    @cached_property
    def _fields(self) -> dict[str, dict[str, KeyPath]]:
        """For the base (under an empty name) and each arm: how problems name a field -> its path."""
        studies = {"": self.base, **self.arms}
        # Of several sections of one folder, the first is named.
        return {
            arm: dict(reversed(list(_named_fields(study.model_dump(mode="json")))))
            for arm, study in studies.items()
        }


def load(
    path: str | os.PathLike[str], *, profile: str | None = None, environ: Mapping[str, str] | None = None
) -> LoadedStudy:
    """Reads a study file, applies a profile, composes its arms and validates all of it.

    Args:
        path: The study file.
        profile: Name of one of its profiles.
        environ: Values of `${NAME}`; default: the environment of this process.

    Raises:
        StudyError: With all problems of the file and of what its arms include, each with file and line.
    """
    document = read(Path(path))
    if not isinstance(document.value, dict):
        content = "the file is empty" if document.value is None else f"this is {as_yaml(document.value)}"
        what = f"{content}; a study is a mapping that begins with `study: NAME`"
        raise StudyError.at(f"{document.name}:1", what)
    return _Loading(document, os.environ if environ is None else environ).load(Path(path), profile)


class _Loading:
    def __init__(self, document: Document, environ: Mapping[str, str]):
        self.document = document
        self.environ = environ
        self.report = Report()
        self.library = Library(document, self.report)

    def load(self, path: Path, profile: str | None) -> LoadedStudy:
        values = self.document.value
        file = Draft(self.document, {key: values[key] for key in values if key not in Variants.model_fields})
        given = {key: values[key] for key in Variants.model_fields if values.get(key) is not None}
        self.note(file, validated(Variants, given)[1])
        of_file = self.examine(file, {})[1]
        draft = self.with_profile(file, given, profile, of_file)
        base, findings = self.examine(draft, {})
        self.note(file, (finding for finding in findings if finding in of_file))
        self.note(draft, (finding for finding in findings if finding not in of_file))
        drafts = self.variants(draft, "arms", _without(given.get("arms"), draft))
        arms = self.arms(drafts, base, findings) if base else {}
        if base is not None:
            self.note(file, unused(base, arms.values()))
        self.report.raise_errors()
        assert base is not None, "a study that cannot be validated has a reported error"
        loaded = LoadedStudy(
            path=path,
            profile=profile,
            profiles=tuple(given.get("profiles", {})),
            base=base,
            arms=arms or {"baseline": base},
            drafts={"": draft, **drafts},
            warnings=self.report.problems("warning"),
        )
        between = [
            (arm, finding)
            for arm in loaded.arms
            for check in (of_other_arms, predicted)
            for finding in check(loaded.arms, arm)
        ]
        if between:
            raise StudyError(tuple(dict.fromkeys(loaded.problem(arm, finding) for arm, finding in between)))
        return loaded

    def with_profile(
        self, file: Draft, given: Mapping[str, Any], name: str | None, of_file: list[Finding]
    ) -> Draft:
        """Returns the study with a profile; all are checked, so that none fails on the cluster only."""
        drafts = self.variants(file, "profiles", given.get("profiles"))
        for draft in drafts.values():  # without the files, since only the chosen one needs its variables
            findings = self.validated(draft.tree, {})[1]
            errors = [finding for finding in findings if finding.severity == "error"]
            errors += _absent_arms(draft, given.get("arms"))
            self.note(draft, (error for error in errors if error not in of_file))
        if name is not None and name not in drafts:
            self.report.add(
                self.document.where(("profiles",)),
                f"there is no profile {name!r}; this study has {', '.join(drafts) or 'none'}."
                f"{suggest(name, drafts)}",
            )
        return drafts.get(name or "", file)

    def variants(self, parent: Draft, group: str, entries: Any) -> dict[str, Draft]:
        """Returns the arms or the profiles before validation."""
        drafts = {}
        for name, overrides in entries.items() if isinstance(entries, dict) else ():
            treatment = self.library.treatment(self.document, (group, name), overrides)
            drafts[name] = parent.derive(group, name, treatment, self.report)
        return drafts

    def arms(
        self, drafts: Mapping[str, Draft], base: Study, base_findings: list[Finding]
    ) -> dict[str, Study]:
        trained = {name: stage for name, stage in base.stages.items() if stage.weights is None}
        repetitions = {name: stage.repetitions for name, stage in trained.items()}
        arms = {}
        for name, draft in drafts.items():
            study, findings = self.examine(draft, repetitions)
            if study is not None:
                arms[name] = study
                findings += pairing(base, study)
            self.note(draft, (finding for finding in findings if finding not in base_findings))
        return arms

    def examine(self, draft: Draft, known: Mapping[str, int | None]) -> tuple[Study | None, list[Finding]]:
        """Returns the study and all findings; the study is without the fields that are invalid."""
        tree, findings = _with_files(draft.tree, self.document.path.parent, self.environ)
        study, more = self.validated(tree, known)
        return study, findings + more

    def validated(
        self, tree: dict[str, Any], known: Mapping[str, int | None]
    ) -> tuple[Study | None, list[Finding]]:
        study, findings = validated(Study, tree, fields_of=StudyFile)
        study = study or _pruned(tree, findings)
        if study is not None:
            study = with_repetitions(study, known)
            found = (*check(study), *unfinished_repeats(study))
            findings += [finding for finding in found if not _depends(finding, findings)]
        return study, findings

    def note(self, draft: Draft, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.report.add(
                draft.where(finding), finding.what, severity=finding.severity, prefix=draft.prefix
            )


def _without(arms: Any, draft: Draft) -> Any:
    """Returns the arms of a file that a profile leaves."""
    if not isinstance(arms, dict):
        return arms
    return {name: value for name, value in arms.items() if ("arms", name) not in draft.left_out}


def _absent_arms(draft: Draft, arms: Any) -> Iterator[Finding]:
    """Yields the arms that a profile leaves out and the file does not have."""
    known = list(arms) if isinstance(arms, dict) else []
    for group, name in sorted(draft.left_out):
        if group == "arms" and name not in known:
            listed = ", ".join(known) or "none"
            what = f"there is no arm {name!r}; this study has {listed}.{suggest(name, known)}"
            yield Finding((group, name), what)


def _pruned(tree: dict[str, Any], invalid: list[Finding]) -> Study | None:
    """Returns the study without its invalid fields, so that one load also reports what else is wrong."""
    for finding in invalid:
        path = finding.path[:-1] if finding.is_required and len(finding.path) > 1 else finding.path
        tree = without(tree, path) if path else tree
    return validated(Study, {"study": "unnamed", **tree})[0]


def _depends(finding: Finding, invalid: list[Finding]) -> bool:
    """Returns whether a finding may be there only because an invalid field was left out."""
    pairs = ((path, other.path[:3]) for path in finding.paths for other in invalid)
    return any(path[: len(other)] == other[: len(path)] for path, other in pairs)


def _with_files(
    tree: dict[str, Any], folder: Path, environ: Mapping[str, str]
) -> tuple[dict[str, Any], list[Finding]]:
    """Returns the tree with variables replaced and absolute paths, and the variables that are not set."""
    tree = {"storage": Study.model_fields["storage"].default, **tree}
    findings = []
    for path, text in _files(tree):
        missing = [name for name in _VARIABLE.findall(text) if name not in environ]
        if missing:
            variables = " and ".join(f"`{name}`" for name in missing)
            what = (
                f"{dotted(path)} needs the environment variable {variables}, which is not set; "
                f"for example: export {missing[0]}=/path/to/it"
            )
            findings.append(Finding(path, what))
            continue
        expanded = os.path.expanduser(_VARIABLE.sub(lambda match: environ[match[1]], text))
        is_uri = "://" in expanded and path == ("storage",)
        value = expanded if is_uri else os.path.abspath(os.path.join(folder, expanded))
        tree = replaced(tree, path, value)
    return tree, findings


def _walk(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields path and value of everything in nested mappings."""
    for name, value in tree.items() if isinstance(tree, dict) else ():
        yield (*path, name), value
        yield from _walk(value, (*path, name))


def _files(tree: Any) -> list[tuple[tuple[str, ...], str]]:
    """Returns path and text of the fields that name files or folders."""
    texts = ((path, value) for path, value in _walk(tree) if isinstance(value, str))
    return [(path, text) for path, text in texts if path in _FILES or (path[0], *path[2:]) in _FILES[2:]]


def _named_fields(tree: dict[str, Any]) -> Iterator[tuple[str, KeyPath]]:
    """Yields how problems name a field of a study, and its path."""
    yield from ((text, path) for path, text in _files(tree))
    for path, value in _walk(tree["data"], ("data",)):
        if path[2:]:
            yield dotted(path), path
        if path[2:] == ("table",) and value:
            yield os.path.join(tree["data"][path[1]]["root"], value), path
