"""What is wrong with a study, before and after it has a line; pydantic's errors in plain words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from xferlab.errors import Problem, StudyError, suggest
from xferlab.section import NAME_PATTERN, Section
from xferlab.study.paths import dotted
from xferlab.study.yaml_lines import KeyPath
from xferlab.tasks import registry
from xferlab.tasks.task import Finding

M = TypeVar("M", bound=Section)


class Report:
    """Collects problems with their lines, each once, and returns them in the order of the input."""

    def __init__(self) -> None:
        self._problems: dict[tuple[str, str], Problem] = {}

    def add(self, where: str, what: str, *, severity: str = "error", prefix: str = "") -> None:
        """Adds a problem at `file:line`; the same message at the same line counts once, with any prefix."""
        self._problems.setdefault((where, what), Problem(where, prefix + what, severity))

    def problems(self, severity: str) -> tuple[Problem, ...]:
        """Returns the problems of one severity, by line; files in the order in which they first appear."""
        files = list(dict.fromkeys(where.rpartition(":")[0] for where, _ in self._problems))

        def position(problem: Problem) -> tuple[int, int]:
            file, _, line = problem.where.rpartition(":")
            return files.index(file), int(line)

        problems = (problem for problem in self._problems.values() if problem.severity == severity)
        return tuple(sorted(problems, key=position))

    def raise_errors(self) -> None:
        """Raises StudyError with all errors, if there are any."""
        if errors := self.problems("error"):
            raise StudyError(errors)


def as_yaml(value: Any) -> str:
    """Returns a short text for a value as YAML writes it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def validated(
    model: type[M], tree: Any, *, fields_of: type[Section] | None = None, under: KeyPath = ()
) -> tuple[M | None, list[Finding]]:
    """Returns a tree as a section, or None and pydantic's errors as findings.

    Args:
        model: The section.
        tree: Plain values.
        fields_of: The section whose fields messages about unknown fields name; default: `model`.
        under: Path of `tree` in the study.
    """
    try:
        return model.model_validate(tree), []
    except ValidationError as error:
        return None, of_validation(error, tree, model=fields_of or model, under=under)


def of_validation(
    error: ValidationError, tree: Any, *, model: type[Section], under: KeyPath = ()
) -> list[Finding]:
    """Returns pydantic's errors as findings in plain words, one for each path.

    Args:
        error: The error that validation raised.
        tree: The plain values that were validated.
        model: The section that they were validated as.
        under: Path of `tree` in the study.
    """
    groups: dict[tuple[KeyPath, bool], list[ErrorDetails]] = defaultdict(list)
    for details in error.errors(include_url=False):
        groups[_path_in(tree, details), _is_about_key(details)].append(details)
    findings = []
    unknown = {path for (path, is_about_key), group in groups.items() if is_about_key and _literals(group[0])}
    for (path, is_about_key), group in groups.items():
        if not is_about_key and any(path[: len(key)] == key for key in unknown):
            continue  # nothing can stand under a name that does not exist
        has_deeper = any(len(other) > len(path) and other[: len(path)] == path for other, _ in groups)
        if has_deeper and all(details["type"] in _TYPES for details in group):
            continue  # of a union's alternatives, the one that looked inside says what is wrong
        is_required = group[0]["type"] in _REQUIRED
        if group[0]["type"] == "extra_forbidden":
            kinds = _kinds(model, path[:-1], group[0]["loc"][-2:-1])
            what = _unknown_field((*under, *path), kinds, group[0]["input"])
        else:
            kinds = _kinds(model, path[:-1], ()) if path else []
            members = (member for kind in kinds for member in _members(_type_inside(kind, path[-1])))
            what = _message((*under, *path), group, is_nullable=type(None) in members)
        findings.append(Finding((*under, *path), what, is_required=is_required))
    return [finding for finding in findings if not _is_explained(finding, findings)]


def _path_in(tree: Any, details: ErrorDetails) -> KeyPath:
    """Returns pydantic's location without the names of union members, which no study contains."""
    path: list[str | int] = []
    for part in details["loc"]:
        is_index = isinstance(tree, list) and isinstance(part, int) and part < len(tree)
        if is_index or (isinstance(tree, dict) and part in tree):
            path.append(part)
            tree = tree[part]
    if details["type"] in _REQUIRED:
        path.append(_tag(details) or details["loc"][-1])
    return tuple(path)


def _unknown_field(path: KeyPath, kinds: list[type[Section]], value: Any) -> str:
    inside = f" in {dotted(path[:-1])}" if path[:-1] else ""
    accepted = [info.alias or name for kind in kinds for name, info in kind.model_fields.items()]
    tasks = [task for task in registry.names() if any(registry.declares(task, kind) for kind in kinds)]
    owner = f" of task {tasks[0]!r}" if tasks else ""
    known_as = [name for name in _OTHER_WORDS.get(str(path[-1]).lower(), ()) if name in accepted]
    hint = f" Did you mean {known_as[0]!r}?" if known_as else suggest(str(path[-1]), accepted)
    if str(path[-1]).isdecimal() and value is None:
        hint = " In {...}, a comma begins the next entry: write 0.5, not 0,5."
    hint = hint or f" Fields{owner}: {', '.join(accepted)}."
    return f"unknown field {str(path[-1])!r}{inside}.{hint}"


def _kinds(model: type[Section], path: KeyPath, tags: KeyPath) -> list[type[Section]]:
    """Returns the sections that may stand at a path inside a section.

    Args:
        model: The section.
        path: Names of fields and of entries of mappings.
        tags: May name the kind of a section, where several kinds are possible.
    """
    options: list[Any] = [model]
    for part in path:
        options = [member for option in options for member in _members(_type_inside(option, part))]
    models = [option for option in options if isinstance(option, type) and issubclass(option, Section)]
    named = [kind for kind in models if any(_is_literal(info, tags) for info in kind.model_fields.values())]
    return named or models


def _is_literal(info: FieldInfo, values: KeyPath) -> bool:
    return get_origin(info.annotation) is Literal and not {*values}.isdisjoint(get_args(info.annotation))


def _type_inside(kind: Any, name: str | int) -> Any:
    """Returns the type of a field of a section, or of a mapping's values; None for other types."""
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    info = getattr(kind, "model_fields", {}).get(name)
    return info.annotation if info else None


def _members(kind: Any) -> list[Any]:
    """Returns the members of a union, or the type itself."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [member for option in get_args(kind) for member in _members(option)]
    return [kind]


def _is_explained(finding: Finding, findings: Iterable[Finding]) -> bool:
    """Returns whether a field is missing because a field beside it is a misspelling of its name."""
    hint = f"Did you mean {finding.path[-1]!r}?" if finding.path else ""
    beside = (other for other in findings if other.path[:-1] == finding.path[:-1])
    return finding.is_required and any(other.what.endswith(hint) for other in beside)


def _message(path: KeyPath, group: list[ErrorDetails], *, is_nullable: bool) -> str:
    first = group[0]
    if first["type"] in ("missing", "union_tag_not_found"):
        return f"the field {dotted(path)!r} is missing"
    if first["type"] == "value_error":
        return f"{dotted(path)}: {first['msg'].removeprefix('Value error, ')}"
    value = first["input"][_tag(first)] if _tag(first) else first["input"]
    telling = [details for details in group if details["type"] not in _TYPES] or group
    accepted = " or ".join(dict.fromkeys(map(_accepted, telling)))
    literals = _literals(first)
    subject, hint = f"{dotted(path)} is {as_yaml(value)}; it", suggest(str(value), literals)
    if _is_about_key(first):
        subject = f"the name {value!r} in {dotted(path[:-1])}"
        if literals:
            single = f"only {literals[0]!r} may stand there"
            accepted = f"accepted: {', '.join(literals)}" if len(literals) > 1 else single
            return f"unknown name {value!r} in {dotted(path[:-1])}; {accepted}.{hint}"
    elif is_nullable and literals:
        accepted += " or null"
    return f"{subject} must be {accepted}.{hint}"


def _tag(details: ErrorDetails) -> str:
    """Returns the field that names a section's kind, where an error is about that; else an empty text."""
    return str(details.get("ctx", {}).get("discriminator", "")).strip("'")


def _is_about_key(details: ErrorDetails) -> bool:
    """Returns whether an error is about a mapping's key, not about its value."""
    return details["loc"][-1:] == ("[key]",)


def _literals(details: ErrorDetails) -> list[str]:
    context = details.get("ctx", {})
    listed = str(context.get("expected", context.get("expected_tags", ""))).replace(" or ", ", ")
    return [item.strip().strip("'") for item in listed.split(",")] if listed else []


def _accepted(details: ErrorDetails) -> str:
    """Returns the accepted values, as the end of `it must be ...`."""
    if literals := _literals(details):
        return f"one of {', '.join(literals)}" if len(literals) > 1 else literals[0]
    context = {**details.get("ctx", {})}
    context["entries"] = "entry" if context.get("min_length", context.get("max_length")) == 1 else "entries"
    if details["type"] == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], f"text of the form {context['pattern']}")
    other = f"another value ({details['msg'].removeprefix('Input should be ')})"
    return _ACCEPTED[details["type"]].format(**context) if details["type"] in _ACCEPTED else other


_OTHER_WORDS = {
    **dict.fromkeys(("network", "architecture", "arch", "backbone"), ("model", "name")),
    "resolution": ("image_size",),
    **dict.fromkeys(("filters", "base_channels"), ("init_features",)),
    "learning_rate": ("lr",),
    **dict.fromkeys(("epochs", "num_epochs"), ("max_epochs",)),
    "early_stopping": ("patience",),
    "criterion": ("loss",),
    "l2": ("weight_decay",),
    **dict.fromkeys(("scheduler", "lr_scheduler"), ("plateau",)),
    "transforms": ("augmentation",),
    **dict.fromkeys(("mirror", "horizontal_flip"), ("flip",)),
    **dict.fromkeys(("normalization", "normalisation"), ("intensity",)),
    **dict.fromkeys(("runs", "num_runs"), ("repetitions",)),
    **dict.fromkeys(("random_seed", "random_state"), ("seed",)),
    "parent": ("starts_from",),
    **dict.fromkeys(("pretrained", "checkpoint"), ("weights",)),
}
"""Names of fields elsewhere, and what they are called here; the first that is accepted is suggested."""

_REQUIRED = ("missing", "union_tag_not_found", "union_tag_invalid")
_PATTERNS = {
    NAME_PATTERN: "letters, digits, `-` and `_`, the first a letter or digit",
    r"^[0-9a-f]{64}$": "64 hexadecimal digits in lower case",
    r"\S": "some text",
}
_TYPES = {
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
_ACCEPTED = {
    **_TYPES,
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "at least {min_length} {entries} long",
    "too_long": "at most {max_length} {entries} long",
    "string_too_long": "at most {max_length} characters long",
}
