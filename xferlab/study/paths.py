"""Paths into a study: what its models have there, and a tree with one value replaced or left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from xferlab.errors import suggest
from xferlab.section import Section
from xferlab.study.yaml_lines import KeyPath

_NOUNS = {"data": "data section", "stages": "stage"}


def dotted(path: Iterable[str | int]) -> str:
    """Returns a path as a study file writes it: `stages.general.evaluate_on[1]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "the study"


def absent_entry(tree: Any, path: Sequence[str]) -> str | None:
    """Returns why a path into a section or stage of the study `tree` leads nowhere, or None if it does not.

    A path that ends with the name of a section or stage adds it.
    """
    noun, entries = _NOUNS.get(path[0]), _child(tree, path[0])
    if noun is None or len(path) < 3 or not isinstance(entries, dict) or path[1] in entries:
        return None
    listed = ", ".join(entries) or "none"
    return f"there is no {noun} {path[1]!r}; this study has {listed}.{suggest(path[1], entries)}"


def unknown_field(path: Sequence[str | int], accepted: Iterable[str]) -> str:
    """Returns the message about a field that does not exist, with the nearest name or all names."""
    accepted = list(accepted)
    inside = f" in {dotted(path[:-1])}" if path[:-1] else ""
    hint = suggest(str(path[-1]), accepted) or f" Fields: {', '.join(accepted)}."
    return f"unknown field {str(path[-1])!r}{inside}.{hint}"


def fields_at(kind: Any, path: KeyPath, tree: Any) -> dict[str, Any]:
    """Returns name and type of the fields at `path` inside a value `tree` of a type; see `fields_of`."""
    for part in path:
        kind, tree = fields_of(kind, tree).get(str(part), _entries(kind)), _child(tree, part)
    return fields_of(kind, tree)


def fields_of(kind: Any, tree: Any) -> dict[str, Any]:
    """Returns name and type of the fields that a value of a type may have; none unless it is a section.

    Args:
        kind: A type annotation; of a union, all sections in it count.
        tree: The value, which tells the section of a tagged union; may be anything else.
    """
    options = [option for option in _alternatives(kind, tree) if isinstance(option, type)]
    models = [option for option in options if issubclass(option, Section)]
    return {name: model.type_of(name, tree) for model in models for name in model.model_fields}


def _entries(kind: Any) -> Any:
    """Returns the type of a mapping's values; None for other types."""
    return next(
        (get_args(option)[1] for option in _alternatives(kind, None) if get_origin(option) is dict), None
    )


def _alternatives(kind: Any, tree: Any) -> list[Any]:
    """Returns the types that a value may have, without null; of a tagged union, the one that it names."""
    if get_origin(kind) is Annotated:
        options = _alternatives(get_args(kind)[0], tree)
        tags = [getattr(entry, "discriminator", None) for entry in kind.__metadata__]
        tag = next(filter(None, tags), None)
        return [option for option in options if tag and _has_tag(option, tag, tree)] or options
    if get_origin(kind) in (Union, UnionType):
        return [option for member in get_args(kind) for option in _alternatives(member, tree)]
    return [] if kind in (Any, None, NoneType) else [kind]


def _has_tag(model: type[Section], tag: str, tree: Any) -> bool:
    return _child(tree, tag) in get_args(model.model_fields[tag].annotation)


def _child(tree: Any, name: str | int) -> Any:
    return tree.get(name) if isinstance(tree, Mapping) else None


def replaced(tree: Any, path: Sequence[str], value: Any) -> dict[str, Any]:
    """Returns `tree` with `value` at `path`, creating what leads there; the argument stays as it is."""
    branch = {"name": tree} if isinstance(tree, str) else dict(tree) if isinstance(tree, dict) else {}
    head, *rest = path
    branch[head] = replaced(branch.get(head), rest, value) if rest else value
    return branch


def without(tree: Any, path: KeyPath) -> Any:
    """Returns `tree` without the value at `path`; a path into a list removes the list."""
    if not isinstance(tree, dict) or path[0] not in tree:
        return tree
    if len(path) == 1 or isinstance(path[1], int):
        return {key: value for key, value in tree.items() if key != path[0]}
    return {**tree, path[0]: without(tree[path[0]], path[1:])}
