"""Arms and profiles: overrides by dotted path, and the study that they make of another."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xferlab.errors import StudyError, listed, suggest
from xferlab.study.findings import Report, as_yaml, validated
from xferlab.study.paths import GROUPS, absent_entry, replaced, without
from xferlab.study.tuned import Tuned
from xferlab.study.yaml_lines import Document, KeyPath, read
from xferlab.tasks.task import Finding

_OF_THE_STUDY = "it belongs to the study as a whole; change it in the study itself, or in a profile"
_PAIRED = "arms are compared repetition by repetition on the same patients; change it in the study itself"
_WHOLE_GROUP = "name what differs by its dotted path, such as `stages.general.starts_from`"
_NAME_OF_STUDY = "it is the study's name"
NOT_IN_ARMS = {
    "study": _NAME_OF_STUDY,
    "seed": _PAIRED,
    "repetitions": f"{_PAIRED}, or for one stage by `stages.NAME.repetitions`",
    "split": _PAIRED,
    "storage": _OF_THE_STUDY,
    "tracking": _OF_THE_STUDY,
    "retries": _OF_THE_STUDY,
    "compare_to": _OF_THE_STUDY,
    "keep_states": _OF_THE_STUDY,
    "overlay_cases": _OF_THE_STUDY,
    "features": _OF_THE_STUDY,
    "subgroups": _OF_THE_STUDY,
    "metrics": _OF_THE_STUDY,
    "prices": _OF_THE_STUDY,
    "primary": _OF_THE_STUDY,
    "contrasts": _OF_THE_STUDY,
    "arms": "arms do not nest; use `include`",
    "profiles": "a profile holds for all arms",
}
NOT_IN_PROFILES = {
    "study": _NAME_OF_STUDY,
    "arms": "change the arms themselves; `arms.NAME: null` leaves one out",
    "profiles": "profiles do not nest",
}
NAMES_OF_PATIENTS = ("same_patient", "different_patients")
"""Fields of a data section that hold real names of patients, which no record does."""
PAIRING_FIELDS = ("hold_out", *NAMES_OF_PATIENTS)
MAX_INCLUDES = 16
SHOWN = 4
"""Fields that a warning names before it says how many more there are."""


@dataclass(frozen=True)
class Override:
    """A value for a dotted path, and where it is written.

    Attributes:
        path: Path in the study.
        value: Replaces the value there as a whole.
        document: File that it comes from.
        key_path: Path in that file.
    """

    path: tuple[str, ...]
    value: Any
    document: Document
    key_path: KeyPath

    @property
    def leaves_out(self) -> bool:
        """Whether it is null in the place of a whole arm, section or stage, which a profile may say."""
        return self.value is None and len(self.path) == 2 and self.path[0] in (*GROUPS, "arms")

    def where(self, path: KeyPath) -> str:
        """Returns `file:line` of the study's `path`, as far as this override contains it."""
        return self.document.where((*self.key_path, *path[len(self.path) :]))


@dataclass(frozen=True)
class Treatment:
    """What an arm or a profile changes, with everything that it includes.

    Attributes:
        overrides: Path -> override, in the order in which they apply.
        tuned: Search -> how it found values of this arm.
        priority: Of the arm's trials, which run before those of a lower one; of no arm that includes it.
    """

    overrides: dict[tuple[str, ...], Override] = field(default_factory=dict)
    tuned: dict[str, Tuned] = field(default_factory=dict)
    priority: int = 0

    def add(self, override: Override) -> None:
        """Adds an override after all others; it replaces one of the same path."""
        self.overrides.pop(override.path, None)
        self.overrides[override.path] = override

    def include(self, other: Treatment) -> None:
        """Adds all that another arm changes."""
        for override in other.overrides.values():
            self.add(override)
        self.tuned.update(other.tuned)


@dataclass(frozen=True)
class Draft:
    """A study before validation: the study file, or another draft with the overrides of a profile or an arm.

    Attributes:
        document: The study file.
        tree: The study as plain values, without arms and profiles.
        group: `profiles` or `arms`; empty for the study file.
        name: Name of the profile or arm.
        overrides: Its overrides that were applied, in order.
        written: All of its overrides, in order, also those of what a profile leaves out.
        tuned: The searches that it comes from.
        priority: Of an arm.
        parent: The draft that they were applied to.
    """

    document: Document
    tree: dict[str, Any]
    group: str = ""
    name: str = ""
    overrides: tuple[Override, ...] = ()
    written: tuple[Override, ...] = ()
    tuned: tuple[Tuned, ...] = ()
    priority: int = 0
    parent: Draft | None = None

    def derive(self, group: str, name: str, treatment: Treatment, report: Report) -> Draft:
        """Returns the draft of a profile or an arm; overrides that cannot be are reported and left out."""
        draft = replace(
            self,
            group=group,
            name=name,
            overrides=(),
            written=tuple(treatment.overrides.values()),
            tuned=tuple(treatment.tuned.values()),
            priority=treatment.priority,
            parent=self,
        )
        for override in treatment.overrides.values():
            if override.path[:2] in self.left_out:
                continue
            leaves_out = group == "profiles" and override.leaves_out
            problem = None if leaves_out else refusal(group, override.path)
            adds = override.value is not None
            if problem := problem or absent_entry(draft.tree, override.path, adds=adds):
                report.add(override.where(override.path), problem, prefix=draft.prefix)
                continue
            path, tree = override.path, draft.tree
            tree = without(tree, path) if leaves_out else replaced(tree, path, override.value)
            draft = replace(draft, tree=tree, overrides=(*draft.overrides, override))
        for override in draft.overrides:
            if lost := _lost(group, override, self.tree, draft.tree):
                report.add(override.where(override.path), lost, severity="warning", prefix=draft.prefix)
        return draft

    @property
    def left_out(self) -> frozenset[tuple[str, ...]]:
        """The arms, sections and stages that a profile leaves out, as paths; arms change nothing of them."""
        entries = self.overrides if self.group == "profiles" else ()
        return frozenset(override.path for override in entries if override.leaves_out)

    @property
    def prefix(self) -> str:
        """The words with which messages about this draft begin."""
        return f"{self.group.removesuffix('s')} {self.name!r}: " if self.group else ""

    def where(self, finding: Finding) -> str:
        """Returns `file:line` of a finding that the parent does not have."""
        path = (self.group, self.name) if self.group else finding.path
        return self.cause(finding) or self.document.where(path)

    def cause(self, finding: Finding) -> str | None:
        """Returns `file:line` of the override that caused a finding; None if the parent has it too."""
        pairs = [(path, override) for path in finding.paths for override in reversed(self.overrides)]
        for path, override in pairs:
            if path[: len(override.path)] == override.path:
                return override.where(path)
        inside = (override for path, override in pairs if override.path[: len(path)] == path)
        return next((override.where(override.path) for override in inside), None)


def refusal(group: str, path: tuple[str, ...]) -> str | None:
    """Returns why an arm or a profile may not override a path, or None if it may.

    Args:
        group: `arms` or `profiles`.
        path: Path in the study.
    """
    owner, reasons = ("an arm", NOT_IN_ARMS) if group == "arms" else ("a profile", NOT_IN_PROFILES)
    reason = reasons.get(path[0])
    if group == "arms" and path in (("data",), ("stages",)):
        reason = _WHOLE_GROUP
    elif group == "arms" and path[0] == "data" and path[2:3] and path[2] in PAIRING_FIELDS:
        reason = _PAIRED
    return f"{owner} may not override {'.'.join(path)!r}: {reason}" if reason else None


def _lost(group: str, override: Override, before: Any, after: Any) -> str | None:
    """Returns what a network or a training that is given as a whole no longer has, if anything.

    Another network has other settings: then nothing is lost. A profile may mean to give all settings of
    another machine, so it must lose more than it gives.
    """
    if override.path[-1] not in ("model", "training"):
        return None
    for name in override.path:
        before, after = (tree.get(name) if isinstance(tree, dict) else None for tree in (before, after))
    if not isinstance(before, dict) or not isinstance(after, dict) or not after:
        return None
    left = [name for name in before if name not in after]
    is_other = "name" in after and after["name"] != before.get("name")
    if not left or is_other or (group == "profiles" and len(left) <= len(after)):
        return None
    path = ".".join(override.path)
    return (
        f"this replaces the whole of `{path}`, and the study's values of {listed(left, SHOWN)} no longer "
        f"hold; to keep them, write {listed([f'`{path}.{name}`' for name in after], SHOWN)} instead"
    )


class Library:
    """The study file and the files that its arms include, each read once."""

    def __init__(self, document: Document, report: Report):
        self._documents: dict[Path, Document | None] = {document.path: document}
        self._treatments: dict[tuple[Path, KeyPath], Treatment] = {}
        self._report = report

    def treatment(
        self, document: Document, path: KeyPath, entries: Any, stack: tuple[str, ...] = ()
    ) -> Treatment:
        """Returns what an arm or a profile changes; mistakes are reported.

        Included arms come first, later includes after earlier ones; of the arm's own overrides, those of
        shorter paths come first, so that their order in the file does not matter.

        Args:
            document: The file.
            path: Path of the arm or profile in it.
            entries: The value there.
            stack: The arms that include it.
        """
        if (document.path, path) in self._treatments:
            return self._treatments[document.path, path]
        treatment = Treatment()
        if not isinstance(entries, dict | None):
            self._report.add(
                document.where(path),
                f"{path[-1]!r} is {as_yaml(entries)}; it must be a mapping of dotted paths to values",
            )
            entries = {}
        entries = dict(entries or {})
        if path[:-1] != ("profiles",):
            for included in self._included(document, path, entries.pop("include", []), stack):
                treatment.include(included)
            if "tuned" in entries:
                self._add_tuned(treatment, document, path, entries.pop("tuned"))
            if "priority" in entries:
                priority = self._priority(document, path, entries.pop("priority"))
                treatment = replace(treatment, priority=priority)
        for text in entries:
            self._refuse_second_value(document, path, text, entries)
        for text in sorted(entries, key=lambda text: text.count(".")):
            treatment.add(Override(tuple(text.split(".")), entries[text], document, (*path, text)))
        self._treatments[document.path, path] = treatment
        return treatment

    def _refuse_second_value(
        self, document: Document, path: KeyPath, text: str, entries: Mapping[str, Any]
    ) -> None:
        """Reports a dotted path whose value an entry that leads there gives, too."""
        names = text.split(".")
        for number in range(1, len(names)):
            value = entries.get(shorter := ".".join(names[:number]))
            for name in names[number:]:
                if not isinstance(value, dict) or name not in value:
                    break
                value = value[name]
            else:
                what = f"{path[-1]!r} gives {text} twice: here, and in `{shorter}`; leave one out"
                self._report.add(document.where((*path, text)), what)

    def _add_tuned(self, treatment: Treatment, document: Document, path: KeyPath, value: Any) -> None:
        findings = []
        for search in value if isinstance(value, list) else [value]:
            tuned, more = validated(Tuned, search, under=("tuned",))
            if tuned is not None:
                treatment.tuned[tuned.tuning_id] = tuned
            findings += more
        for finding in findings:
            self._report.add(
                document.where((*path, *finding.path)),
                f"arm {path[-1]!r}: {finding.what.rstrip('.')}; leave it as `xferlab tune` wrote it",
            )

    def _priority(self, document: Document, path: KeyPath, value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        what = f"arm {path[-1]!r}: priority is {as_yaml(value)}; it must be a whole number"
        self._report.add(document.where((*path, "priority")), what)
        return 0

    def _included(
        self, document: Document, path: KeyPath, value: Any, stack: tuple[str, ...]
    ) -> Iterator[Treatment]:
        for index, text in enumerate(value if isinstance(value, list) else [value]):
            where = document.where((*path, "include", index))
            file, _, name = text.partition("#") if isinstance(text, str) else ("", "", "")
            if not name:
                self._report.add(
                    where,
                    f"include is {as_yaml(text)}; it must be FILE.yaml#ARM, in quotes if it begins with #",
                )
                continue
            target = self._open(document, file, where) if file else document
            if target is not None:
                yield self._follow(target, name, where, stack)

    def _follow(self, target: Document, name: str, where: str, stack: tuple[str, ...]) -> Treatment:
        label = f"{target.name}#{name}"
        arms, group = target.value, KeyPath()
        if isinstance(arms, dict) and "study" in arms:
            arms, group = arms.get("arms"), ("arms",)
        arms = arms if isinstance(arms, dict) else {}
        if label in stack:
            circle = " -> ".join((*stack[stack.index(label) :], label))
            self._report.add(where, f"arms include each other in a circle: {circle}")
        elif len(stack) >= MAX_INCLUDES:
            self._report.add(where, f"more than {MAX_INCLUDES} arms include each other in a row")
        elif name not in arms:
            self._report.add(
                where,
                f"{target.name} has no arm {name!r}; it has {', '.join(arms) or 'none'}."
                f"{suggest(name, arms)}",
            )
        else:
            return self.treatment(target, (*group, name), arms[name], (*stack, label))
        return Treatment()

    def _open(self, document: Document, file: str, where: str) -> Document | None:
        path = Path(os.path.normpath(document.path.parent / file))
        if path not in self._documents:
            shown = os.path.normpath(os.path.join(os.path.dirname(document.name), file))
            self._documents[path] = None
            try:
                self._documents[path] = read(path, name=shown)
            except StudyError as error:
                for problem in error.problems:
                    self._report.add(where, f"cannot include {problem}")
        return self._documents[path]
