"""From a study file to validated studies: the base and every arm, with all problems and their lines."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xferlab.errors import Problem, StudyError, suggest
from xferlab.study.check import check, pairing, unused, with_repetitions
from xferlab.study.compose import NOT_IN_PROFILES, Draft, Library, Override, named, refused_in_arms
from xferlab.study.editors import json_schema
from xferlab.study.findings import Finding, Report, dotted, found, of_validation
from xferlab.study.located import Located
from xferlab.study.paths import complaint, replaced, without
from xferlab.study.schema import Study
from xferlab.study.tuned import Tuned
from xferlab.study.yaml_lines import Document, KeyPath, read

__all__ = ["LoadedStudy", "json_schema", "load"]

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True)
class LoadedStudy:
    """A study that is ready to be planned.

    Attributes:
        path: The file.
        profile: Name of the profile that was applied, if any.
        base: The study without the overrides of any arm. Every trained stage has `repetitions`; roots, paths
            of weights and a storage that is no URI are absolute.
        arms: Each arm as a study of its own, in file order; a file without arms has the arm `baseline`.
        overrides: What each arm changes, as written: dotted path -> value, with what it includes.
        warnings: What may be a mistake, with its line.
        tuned: The searches that an arm comes from, if any.
        located: Gives messages about files that the study names their line.
        drafts: Where each arm's fields are written; under an empty name, those of the base.
        relative_storage: The storage as written, where that is a relative path; else empty.
    """

    path: Path
    profile: str | None
    base: Study
    arms: Mapping[str, Study]
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()
    tuned: Mapping[str, tuple[Tuned, ...]] = field(default_factory=dict)
    located: Located = field(default_factory=Located, compare=False, repr=False)
    drafts: Mapping[str, Draft] = field(default_factory=dict, repr=False, compare=False)
    relative_storage: str = ""

    def problem(self, arm: str, finding: Finding) -> Problem:
        """Returns what is found about an arm when it is planned, at the line that causes it."""
        base = self.drafts[""]
        draft = self.drafts.get(arm, base)
        draft = draft if draft.cause(finding) else base
        file, line = draft.position(finding)
        return Problem(f"{file}:{line}", draft.prefix + finding.what, finding.severity)


def load(
    path: str | os.PathLike[str], *, profile: str | None = None, environ: Mapping[str, str] | None = None
) -> LoadedStudy:
    """Reads a study file, applies a profile, composes its arms and validates all of it.

    Args:
        path: The study file.
        profile: Name of one of its profiles.
        environ: Where `${NAME}` is looked up; default: the environment of this process.

    Raises:
        StudyError: With all problems of the file and of what its arms include, each with file and line.
    """
    path = Path(path)
    document = read(path)
    if not isinstance(document.value, dict):
        what = "the file is empty" if document.value is None else f"this is {found(document.value)}"
        raise StudyError(
            Problem(f"{document.name}:1", f"{what}; a study is a mapping that begins with `study: NAME`")
        )
    loading = _Loading(document, os.environ if environ is None else environ)
    loaded = loading.load(path, profile)
    return replace(loaded, tuned=loading.tuned(loaded.arms))


class _Loading:
    def __init__(self, document: Document, environ: Mapping[str, str]):
        self.document = document
        self.environ = environ
        self.report = Report()
        self.library = Library(document, self.report)
        self.located = Located()
        self.drafts: dict[str, Draft] = {}

    def load(self, path: Path, profile: str | None) -> LoadedStudy:
        draft = self.drafts[""] = self.with_profile(profile)
        base, base_findings = self.examine(draft, {})
        self.tell_base(draft, base_findings)
        arms = self.arms(draft, base, base_findings)
        if base is not None:
            self.tell(draft, unused(base, arms.values()))
        self.report.raise_errors()
        if base is None:
            raise AssertionError("a study that cannot be validated has a reported error")
        return LoadedStudy(
            path=path,
            profile=profile,
            base=base,
            arms=arms or {"baseline": base},
            overrides=self.overrides(arms),
            warnings=self.report.problems("warning"),
            located=self.located,
            drafts=self.drafts,
            relative_storage=_relative(_expanded(_storage_of(draft.tree), self.environ)),
        )

    def without_arms(self) -> dict[str, Any]:
        return {key: value for key, value in self.document.value.items() if key not in ("arms", "profiles")}

    def with_profile(self, profile: str | None) -> Draft:
        draft = Draft(self.document, self.without_arms())
        profiles = named(self.document, "profiles", self.report)
        applied: list[Override] = []
        for name in profiles:
            overrides = self.allowed_in_profiles(name, draft.tree)
            applied = overrides if name == profile else applied
        if profile is not None and profile not in profiles:
            names = ", ".join(profiles) or "none"
            what = f"there is no profile {profile!r}; this study has {names}.{suggest(profile, profiles)}"
            self.report.add((self.document.name, self.document.line(("profiles",))), what)
        return draft.apply(applied, self.report)

    def allowed_in_profiles(self, name: str, tree: dict[str, Any]) -> list[Override]:
        """Returns a profile's overrides; all profiles are checked, so that none fails on the cluster only."""
        allowed = []
        for override in self.library.overrides(self.document, "profiles", name):
            problem = complaint(tree, override.path)
            if override.path[0] in NOT_IN_PROFILES:
                problem = f"a profile may not override {override.path[0]!r}"
            if problem:
                self.report.add(override.position(override.path), problem, prefix=f"profile {name!r}: ")
            else:
                tree = replaced(tree, override.path, override.value)
                allowed.append(override)
        return allowed

    def arms(self, base_draft: Draft, base: Study | None, base_findings: list[Finding]) -> dict[str, Study]:
        known = {name: stage.repetitions for name, stage in base.stages.items()} if base else {}
        old = {(finding.path, finding.what) for finding in base_findings}
        studies = {}
        for name in named(self.document, "arms", self.report):
            overrides = self.library.overrides(self.document, "arms", name)
            allowed = refused_in_arms(overrides, self.report, name)
            shared = len(base_draft.overrides)
            draft = replace(base_draft, arm=name, num_shared=shared).apply(allowed, self.report)
            self.drafts[name] = draft
            if base is None:
                continue
            study, findings = self.examine(draft, known)
            findings += pairing(base, study) if study else ()
            self.tell(draft, (finding for finding in findings if (finding.path, finding.what) not in old))
            if study is not None:
                studies[name] = study
        return studies

    def overrides(self, arms: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Returns what each arm changes, by dotted path."""
        found = {name: self.library.overrides(self.document, "arms", name) for name in arms}
        return {name: {".".join(one.path): one.value for one in group} for name, group in found.items()}

    def examine(self, draft: Draft, known: Mapping[str, int | None]) -> tuple[Study | None, list[Finding]]:
        """Returns the study and all findings; the study is without the fields that are invalid."""
        tree, findings = _with_places(draft.tree, self.document.folder, self.environ)
        self.located.note(draft, tree)
        try:
            study = Study.model_validate(tree)
        except ValidationError as error:
            invalid = of_validation(error, tree)
            partial = _pruned(tree, invalid)
            more = check(with_repetitions(partial, known)) if partial else []
            return partial, findings + invalid + [f for f in more if not _depends(f, invalid)]
        study = with_repetitions(study, known)
        return study, findings + check(study)

    def tuned(self, arms: Iterable[str]) -> dict[str, tuple[Tuned, ...]]:
        """Returns the searches that arms come from."""
        written = named(self.document, "arms", self.report)
        found = {name: self.library.tuned(self.document, name) for name in arms if name in written}
        return {name: searches for name, searches in found.items() if searches}

    def tell_base(self, draft: Draft, findings: list[Finding]) -> None:
        """Reports what is wrong with the base; at the profile's line what holds only with the profile."""
        bare = Draft(self.document, self.without_arms())
        plain = self.examine(bare, {})[1] if draft.overrides else findings
        self.tell(bare, (finding for finding in findings if finding in plain))
        self.tell(draft, (finding for finding in findings if finding not in plain))

    def tell(self, draft: Draft, findings: Iterable[Finding]) -> None:
        for finding in findings:
            position = draft.position(finding)
            self.report.add(position, finding.what, severity=finding.severity, prefix=draft.prefix)


def _pruned(tree: dict[str, Any], invalid: list[Finding]) -> Study | None:
    """Returns the study without its invalid fields, so that one load also reports what else is wrong."""
    tree = {"study": "unnamed", **tree}
    for finding in invalid:
        path = finding.path[:-1] if finding.is_missing and len(finding.path) > 1 else finding.path
        if path not in ((), ("study",)):
            tree = without(tree, path)
        elif path:
            tree = {**tree, "study": "unnamed"}
    try:
        return Study.model_validate(tree)
    except ValidationError:
        return None


def _depends(finding: Finding, invalid: list[Finding]) -> bool:
    """Whether a finding may be there only because an invalid field was left out."""
    pairs = ((path, other.path[:3]) for path in finding.paths for other in invalid)
    return any(path[: len(other)] == other[: len(path)] for path, other in pairs)


def _with_places(
    tree: dict[str, Any], folder: str, environ: Mapping[str, str]
) -> tuple[dict[str, Any], list[Finding]]:
    """Returns the tree with variables replaced and absolute paths, and the variables that are not set."""
    findings = []
    for path, text in _places(tree):
        missing = [name for name in _VARIABLE.findall(text) if name not in environ]
        if missing:
            variables = " and ".join(f"`{name}`" for name in missing)
            what = f"{dotted(path)} needs the environment variable {variables}, which is not set; "
            what += f"for example: export {missing[0]}=/path/to/it"
            findings.append(Finding(path, what))
            continue
        expanded = _expanded(text, environ)
        if "://" in expanded and path == ("storage",):
            tree = {**tree, "storage": expanded}
            continue
        tree = replaced(tree, [str(part) for part in path], os.path.abspath(os.path.join(folder, expanded)))
    return tree, findings


def _places(tree: dict[str, Any]) -> Iterable[tuple[KeyPath, str]]:
    if isinstance(_storage_of(tree), str):
        yield ("storage",), _storage_of(tree)
    for group, inner in (("data", ("root",)), ("stages", ("weights", "path"))):
        sections = tree.get(group)
        for name, section in sections.items() if isinstance(sections, dict) else ():
            value: Any = section
            for part in inner:
                value = value.get(part) if isinstance(value, dict) else None
            if isinstance(value, str):
                yield (group, name, *inner), value


def _storage_of(tree: Mapping[str, Any]) -> Any:
    return tree.get("storage", Study.model_fields["storage"].default)


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    return os.path.expanduser(_VARIABLE.sub(lambda match: environ[match[1]], text))


def _relative(storage: str) -> str:
    return "" if "://" in storage or os.path.isabs(storage) else storage
