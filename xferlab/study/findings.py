"""Findings about a study before they have a line, their collection, and pydantic's errors in plain words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from xferlab.errors import Problem, StudyError, suggest
from xferlab.section import NAME_PATTERN
from xferlab.study.paths import field_names
from xferlab.study.yaml_lines import KeyPath

Position = tuple[str, int]
"""File as shown, and line."""


@dataclass(frozen=True)
class Finding:
    """Something about the value at a path of a study.

    Attributes:
        path: Where it is; shown by the message, and its line is the problem's.
        what: Message.
        severity: `error` or `warning`.
        related: Other paths that it depends on; an arm that overrides one of them has caused it.
        is_missing: Whether nothing stands at `path`, and something must.
    """

    path: KeyPath
    what: str
    severity: str = "error"
    related: tuple[KeyPath, ...] = ()
    is_missing: bool = False

    @property
    def paths(self) -> tuple[KeyPath, ...]:
        """All paths that it depends on, its own first."""
        return (self.path, *self.related)


class Report:
    """Collects located problems, each once, and gives them in the order of the input."""

    def __init__(self) -> None:
        self._found: dict[tuple[Position, str], tuple[str, str]] = {}

    def add(self, position: Position, what: str, *, severity: str = "error", prefix: str = "") -> None:
        """Notes a problem; the same words at the same place count once, whatever the prefix."""
        self._found.setdefault((position, what), (severity, prefix))

    def problems(self, severity: str) -> tuple[Problem, ...]:
        """Returns the problems of one severity, by line; files in the order in which they first appear."""
        files = list(dict.fromkeys(position[0] for position, _ in self._found))
        items = sorted(self._found.items(), key=lambda item: (files.index(item[0][0][0]), item[0][0][1]))
        return tuple(
            Problem(f"{file}:{line}", prefix + what, severity)
            for ((file, line), what), (found, prefix) in items
            if found == severity
        )

    def raise_errors(self) -> None:
        """Raises StudyError with all errors, if there are any."""
        if errors := self.problems("error"):
            raise StudyError(errors)


def dotted(path: KeyPath) -> str:
    """Returns a path as a reader writes it: `stages.general.evaluate_on[1]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "the study"


def found(value: Any) -> str:
    """Returns a short text for a value as YAML writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def of_validation(error: ValidationError, tree: Any, *, under: KeyPath = ()) -> list[Finding]:
    """Returns pydantic's errors as findings in plain words, one for each place.

    Args:
        error: What validation raised.
        tree: The study (or, with `under`, the part of it there) that was validated.
        under: Path of `tree` in the study.
    """
    at: dict[tuple[KeyPath, bool], list[ErrorDetails]] = defaultdict(list)
    for details in error.errors(include_url=False):
        at[_place(tree, details), _of_key(details)].append(details)
    findings = []
    for (place, _), group in at.items():
        if any(len(other) > len(place) and other[: len(place)] == place for other, _ in at) and _only_types(
            group
        ):
            continue  # of a union's alternatives, the one that looked inside tells what is wrong
        path, is_missing = (*under, *place), group[0]["type"] in _MISSING
        findings.append(Finding(path, _words(path, group), is_missing=is_missing))
    return [finding for finding in findings if not _explained(finding, findings)]


def _place(tree: Any, details: ErrorDetails) -> KeyPath:
    """Drops from pydantic's location the names of union members, which no study contains."""
    place: list[str | int] = []
    for part in details["loc"]:
        inside = (isinstance(tree, dict) and part in tree) or (
            isinstance(tree, list) and isinstance(part, int) and part < len(tree)
        )
        if inside:
            place.append(part)
            tree = tree[part]
    if details["type"] in _MISSING:
        place.append("source" if details["type"] == "union_tag_not_found" else details["loc"][-1])
    return tuple(place)


def _only_types(group: Iterable[ErrorDetails]) -> bool:
    return all(details["type"] in _KINDS for details in group)


def _explained(finding: Finding, findings: Iterable[Finding]) -> bool:
    """Whether a field is missing only because its name is misspelt beside it."""
    if not finding.is_missing:
        return False
    hint = f"Did you mean {finding.path[-1]!r}?"
    return any(f.path[:-1] == finding.path[:-1] and f.what.endswith(hint) for f in findings)


def _words(path: KeyPath, group: list[ErrorDetails]) -> str:
    first, kind = group[0], group[0]["type"]
    if kind in _WHOLE:
        return _WHOLE[kind](path, first)
    telling = [details for details in group if details["type"] not in _KINDS] or group
    accepted = list(dict.fromkeys(_accepted(details) for details in telling))
    hint = suggest(str(first["input"]), _literals(first)) if kind == "literal_error" else ""
    if _of_key(first):
        return f"the name {first['input']!r} in {dotted(path[:-1])} must be {' or '.join(accepted)}.{hint}"
    return f"{dotted(path)} is {found(first['input'])}; it must be {' or '.join(accepted)}.{hint}"


def _of_key(details: ErrorDetails) -> bool:
    """Whether an error concerns a mapping's key and not its value."""
    return bool(details["loc"]) and details["loc"][-1] == "[key]"


def _literals(details: ErrorDetails) -> list[str]:
    listed = str(details.get("ctx", {}).get("expected", details.get("ctx", {}).get("expected_tags", "")))
    return [item.strip().strip("'") for item in listed.replace(" or ", ", ").split(",")]


def _accepted(details: ErrorDetails) -> str:
    """Returns what would be accepted, as the end of `it must be ...`."""
    kind, ctx = details["type"], details.get("ctx", {})
    if kind in _KINDS:
        return _KINDS[kind]
    if kind in _BOUNDS:
        word, key = _BOUNDS[kind]
        return word.format(ctx[key])
    if kind == "literal_error":
        return (
            "one of " + ", ".join(_literals(details))
            if len(_literals(details)) > 1
            else _literals(details)[0]
        )
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(str(ctx["pattern"]), f"text of the form {ctx['pattern']}")
    return f"another value ({details['msg'].removeprefix('Input should be ')})"


def _unknown(path: KeyPath, details: ErrorDetails) -> str:
    accepted = field_names(path[:-1], source=details["loc"][-2] if len(details["loc"]) > 1 else None)
    inside = f" in {dotted(path[:-1])}" if path[:-1] else ""
    hint = suggest(str(path[-1]), accepted) or f" Fields: {', '.join(accepted)}."
    return f"unknown field {str(path[-1])!r}{inside}.{hint}"


def _unknown_source(path: KeyPath, details: ErrorDetails) -> str:
    accepted = _literals(details)
    given = details["input"].get("source") if isinstance(details["input"], Mapping) else details["input"]
    return (
        f"{dotted(path)}.source is {found(given)}; it must be one of {', '.join(accepted)}."
        f"{suggest(str(given), accepted)}"
    )


_MISSING = ("missing", "union_tag_not_found")
_NAME = "letters, digits, `-` and `_`, the first a letter or digit"
_PATTERNS = {NAME_PATTERN: _NAME, r"^[0-9a-f]{64}$": "64 hexadecimal digits in lower case"}
_KINDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text (numbers in quotes)",
    "dict_type": "a mapping",
    "model_type": "a mapping of fields",
    "model_attributes_type": "a mapping of fields",
    "list_type": "a list",
}
_BOUNDS = {
    "greater_than": ("more than {}", "gt"),
    "greater_than_equal": ("at least {}", "ge"),
    "less_than": ("less than {}", "lt"),
    "less_than_equal": ("at most {}", "le"),
    "too_short": ("at least {} entry long", "min_length"),
    "string_too_long": ("at most {} characters long", "max_length"),
}
_WHOLE: dict[str, Callable[[KeyPath, ErrorDetails], str]] = {
    "extra_forbidden": _unknown,
    "missing": lambda path, details: f"the field {dotted(path)!r} is missing",
    "union_tag_invalid": _unknown_source,
    "union_tag_not_found": lambda path, details: f"the field {dotted(path)!r} is missing",
    "value_error": lambda path, details: f"{dotted(path)}: {details['msg'].removeprefix('Value error, ')}",
}
