"""Overrides by dotted path, and the arms and profiles that consist of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xferlab.errors import Problem, StudyError, suggest
from xferlab.study.findings import Finding, Position, Report, found
from xferlab.study.paths import complaint, replaced
from xferlab.study.tuned import Tuned, parsed
from xferlab.study.yaml_lines import Document, KeyPath, read

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_OF_THE_STUDY = "it belongs to the study as a whole; change it in the study itself, or in a profile"
_PAIRED = "arms are compared repetition by repetition on the same patients; change it in the study itself"
_WHOLE_GROUP = "name what differs by its dotted path, such as `stages.general.starts_from`"
NOT_IN_ARMS = {
    "study": "it is the study's name",
    "seed": _PAIRED,
    "repetitions": f"{_PAIRED}, or for one stage by `stages.NAME.repetitions`",
    "split": _PAIRED,
    "storage": _OF_THE_STUDY,
    "tracking": _OF_THE_STUDY,
    "retries": _OF_THE_STUDY,
    "compare_to": _OF_THE_STUDY,
    "overlay_cases": _OF_THE_STUDY,
    "features": _OF_THE_STUDY,
    "arms": "arms do not nest; use `include`",
    "profiles": "a profile holds for all arms",
}
NOT_IN_PROFILES = ("arms", "profiles", "study")
MAX_INCLUDES = 16
_TUNED = "#tuned"  # no dotted path of a file begins like this
PAIRING_FIELDS = ("hold_out", "same_patient", "different_patients")


@dataclass(frozen=True)
class Override:
    """A value for a dotted path, and where it was written.

    Attributes:
        path: Path in the study.
        value: Replaces what stands there as a whole.
        document: File that it comes from.
        key_path: Path in that file.
    """

    path: tuple[str, ...]
    value: Any
    document: Document
    key_path: KeyPath

    def position(self, path: KeyPath) -> Position:
        """Returns file and line of the study's `path`, as far as this override contains it."""
        inside = path[len(self.path) :]
        return self.document.name, self.document.line((*self.key_path, *inside))


@dataclass(frozen=True)
class Draft:
    """A study that is not yet validated: its tree, and where each part of it was written.

    Attributes:
        document: The study file.
        tree: The study as plain values, without arms and profiles.
        overrides: What was applied to the file, in order.
        arm: Name of the arm; empty for the base.
        num_shared: How many of `overrides`, from the first, are the profile's and not this arm's.
    """

    document: Document
    tree: dict[str, Any]
    overrides: tuple[Override, ...] = ()
    arm: str = ""
    num_shared: int = 0

    def apply(self, overrides: Iterable[Override], report: Report) -> Draft:
        """Returns the draft with overrides applied; those with an unknown path are reported and left out."""
        tree, applied = self.tree, list(self.overrides)
        for override in overrides:
            if problem := complaint(tree, override.path):
                report.add(override.position(override.path), problem, prefix=self.prefix)
                continue
            tree = replaced(tree, override.path, override.value)
            applied.append(override)
        return replace(self, tree=tree, overrides=tuple(applied))

    @property
    def prefix(self) -> str:
        """How messages about this draft begin."""
        return f"arm {self.arm!r}: " if self.arm else ""

    def position(self, finding: Finding) -> Position:
        """Returns the line that a finding is about: that of the override that caused it, if one did."""
        path = ("arms", self.arm) if self.arm else finding.path
        return self.cause(finding) or (self.document.name, self.document.line(path))

    def cause(self, finding: Finding) -> Position | None:
        """Returns the line of the override that caused a finding; None if the study without it has it too."""
        own = self.overrides[self.num_shared :]
        pairs = [(path, override) for path in finding.paths for override in reversed(own)]
        for path, override in pairs:
            if path[: len(override.path)] == override.path:
                return override.position(path)
        for path, override in pairs:
            if override.path[: len(path)] == path:
                return override.position(override.path)
        return None


class Library:
    """The study file and the files that its arms include, each read once; expands an arm into overrides."""

    def __init__(self, document: Document, report: Report):
        self._documents: dict[str, Document | None] = {_key(document): document}
        self._expanded: dict[tuple[str, KeyPath], dict[tuple[str, ...], Override]] = {}
        self._report = report

    def overrides(self, document: Document, group: str, name: str) -> list[Override]:
        """Returns the overrides of one arm or profile of a file, in the order in which they apply.

        Included arms come first, later includes after earlier ones; of an arm's own, the shorter path first,
        so that their order in the file does not matter.
        """
        expanded = self._expand(document, (group, name), ()).values()
        return [one for one in expanded if one.path[0] != _TUNED]

    def tuned(self, document: Document, name: str) -> tuple[Tuned, ...]:
        """Returns what an arm and those that it includes carry of the searches that they come from."""
        expanded = self._expand(document, ("arms", name), ()).values()
        return tuple(one.value for one in expanded if one.path[0] == _TUNED)

    def _expand(
        self, document: Document, place: KeyPath, stack: tuple[str, ...]
    ) -> dict[tuple[str, ...], Override]:
        key = (_key(document), place)
        if key in self._expanded:
            return self._expanded[key]
        entries = _at(document, place)
        if not isinstance(entries, dict | None):
            problem = f"{place[-1]!r} is {found(entries)}; it must be a mapping of dotted paths to values"
            self._report.add((document.name, document.line(place)), problem)
        own = dict(entries) if isinstance(entries, dict) else {}
        is_arm = place[:-1] != ("profiles",)
        includes = own.pop("include", ()) if is_arm else ()
        tuned = self._tuned(document, place, own.pop("tuned")) if is_arm and "tuned" in own else {}
        merged: dict[tuple[str, ...], Override] = {}
        for included in self._included(document, (*place, "include"), includes, stack):
            for path, override in included.items():
                merged.pop(path, None)  # the later include also comes later in the order
                merged[path] = override
        for text in sorted(own, key=lambda text: text.count(".")):
            path = tuple(text.split("."))
            merged.pop(path, None)
            merged[path] = Override(path, own[text], document, (*place, text))
        merged |= tuned
        self._expanded[key] = merged
        return merged

    def _tuned(self, document: Document, place: KeyPath, value: Any) -> dict[tuple[str, ...], Override]:
        tuned, findings = parsed(value)
        for finding in findings:
            line = document.line((*place, "tuned", *finding.path))
            self._report.add((document.name, line), finding.what, prefix=f"arm {str(place[-1])!r}: ")
        path = (_TUNED, tuned.tuning_id if tuned else "")
        return {path: Override(path, tuned, document, (*place, "tuned"))} if tuned else {}

    def _included(
        self, document: Document, place: KeyPath, value: Any, stack: tuple[str, ...]
    ) -> Iterable[dict[tuple[str, ...], Override]]:
        texts = value if isinstance(value, list | tuple) else [value]
        for index, text in enumerate(texts):
            here = (document.name, document.line((*place, index)))
            file, mark, name = text.partition("#") if isinstance(text, str) else ("", "", "")
            if not mark or not name:
                what = f"include is {found(text)}; it must be FILE.yaml#ARM, in quotes where it begins with #"
                self._report.add(here, what)
                continue
            target = self._open(document, file, here)
            if target is not None:
                yield self._follow(target, name, here, stack)

    def _follow(
        self, target: Document, name: str, here: Position, stack: tuple[str, ...]
    ) -> dict[tuple[str, ...], Override]:
        label = f"{target.name}#{name}"
        if label in stack:
            circle = " -> ".join((*stack[stack.index(label) :], label))
            self._report.add(here, f"arms include each other in a circle: {circle}")
            return {}
        if len(stack) >= MAX_INCLUDES:
            self._report.add(here, f"more than {MAX_INCLUDES} arms include each other in a row")
            return {}
        place = _arm_place(target, name)
        arms = _at(target, place[:-1])
        if not isinstance(arms, dict) or name not in arms:
            names = list(arms) if isinstance(arms, dict) else []
            what = f"{target.name} has no arm {name!r}; it has {', '.join(names) or 'none'}."
            self._report.add(here, what + suggest(name, names))
            return {}
        return self._expand(target, place, (*stack, label))

    def _open(self, document: Document, file: str, here: Position) -> Document | None:
        if not file:
            return document
        path = os.path.normpath(os.path.join(document.folder, file))
        if path not in self._documents:
            shown = os.path.normpath(os.path.join(os.path.dirname(document.name), file))
            try:
                self._documents[path] = read(Path(path), name=shown)
            except StudyError as error:
                self._documents[path] = None
                self._cannot_include(error.problems, here, shown)
        return self._documents[path]

    def _cannot_include(self, problems: Iterable[Problem], here: Position, shown: str) -> None:
        for problem in problems:
            _, _, line = problem.where.rpartition(":")
            if problem.where != shown and line.isdigit():
                self._report.add((shown, int(line)), problem.what)
            else:
                self._report.add(here, f"cannot include {shown}: {problem.what}")


def refused_in_arms(overrides: Iterable[Override], report: Report, arm: str) -> list[Override]:
    """Returns the overrides that an arm may have, and reports the others with the reason."""
    allowed = []
    for override in overrides:
        head, text = override.path[0], ".".join(override.path)
        reason = NOT_IN_ARMS.get(head)
        if override.path in (("data",), ("stages",)):
            reason = _WHOLE_GROUP
        elif head == "data" and len(override.path) > 2 and override.path[2] in PAIRING_FIELDS:
            reason = _PAIRED
        if reason is None:
            allowed.append(override)
            continue
        what = f"an arm may not override {text!r}: {reason}"
        report.add(override.position(override.path), what, prefix=f"arm {arm!r}: ")
    return allowed


def named(document: Document, group: str, report: Report) -> Mapping[str, Any]:
    """Returns the arms or the profiles of a study file by name; bad names and shapes are reported."""
    entries = document.value.get(group)
    if entries is None:
        return {}
    if not isinstance(entries, dict):
        line = (document.name, document.line((group,)))
        report.add(line, f"{group} is {found(entries)}; it must be a mapping of names to overrides")
        return {}
    for name in entries:
        if not _NAME.fullmatch(name):
            what = f"the name {name!r} in {group} must be at most 64 letters, digits, `-` and `_`"
            report.add((document.name, document.line((group, name))), what)
    return entries


def _key(document: Document) -> str:
    return os.path.join(document.folder, os.path.basename(document.name))


def _at(document: Document, place: KeyPath) -> Any:
    value = document.value
    for part in place:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _arm_place(document: Document, name: str) -> KeyPath:
    """Returns where a file keeps its arms: a study under `arms`, any other file at its top."""
    is_study = isinstance(document.value, dict) and "study" in document.value
    return ("arms", name) if is_study else (name,)
