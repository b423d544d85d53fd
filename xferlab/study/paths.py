"""Dotted paths into a study: which of them the schema has, and a tree with one of them replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from xferlab.errors import suggest
from xferlab.study.schema import OfTask, Study
from xferlab.study.yaml_lines import KeyPath

_NOUNS = {"data": "data section", "stages": "stage"}


def complaint(tree: Any, path: Sequence[str]) -> str | None:
    """Returns why `path` cannot be overridden in the study `tree`, or None if it can.

    A field of the schema may be absent from the tree. A section or stage must be there, unless the path ends
    with its name, which adds it whole.
    """
    kind: Any = Study
    for depth, name in enumerate(path):
        at = ".".join(path[:depth])
        members = _members(kind, tree)
        models = [member for member in members if _is_model(member)]
        mapping = next((member for member in members if get_origin(member) is dict), None)
        if models:
            problem, kind = _enter(models, name, at, tree)
        elif mapping and any(_is_model(member) for member in _members(get_args(mapping)[1], None)):
            if not isinstance(tree, dict):
                return None  # whatever is wrong with the study itself is told there
            if depth + 1 < len(path) and name not in tree:
                return _absent(path[0], name, list(tree))
            problem, kind = None, get_args(mapping)[1]
        elif mapping or not members:
            return None
        else:
            problem = f"{at} is a single value and has no field {name!r}; override {at} as a whole"
        if problem:
            return problem
        tree = tree.get(name) if isinstance(tree, dict) else None
    return None


def field_names(path: KeyPath, *, source: str | int | None = None) -> tuple[str, ...]:
    """Returns the fields that the schema has at `path`; of a data section, those of its `source`."""
    kind: Any = Study
    for name in path:
        fields = _fields(kind)
        kind = fields[str(name)] if fields else next((get_args(m)[1] for m in _members(kind, None)), Any)
    extra = () if path else ("arms", "profiles")
    return (*_fields(kind, source), *extra)


def replaced(tree: Any, path: Sequence[str], value: Any) -> dict[str, Any]:
    """Returns `tree` with `value` at `path`, creating what leads there; the argument stays as it is."""
    branch = {"name": tree} if isinstance(tree, str) else dict(tree) if isinstance(tree, dict) else {}
    head, *rest = path
    branch[head] = replaced(branch.get(head), rest, value) if rest else value
    return branch


def without(tree: Any, path: KeyPath) -> Any:
    """Returns `tree` without what stands at `path`; a path into a list removes the list."""
    if not isinstance(tree, dict) or path[0] not in tree:
        return tree
    if len(path) == 1 or isinstance(path[1], int):
        return {key: value for key, value in tree.items() if key != path[0]}
    return {**tree, path[0]: without(tree[path[0]], path[1:])}


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _members(kind: Any, tree: Any) -> list[Any]:
    """Returns the alternatives of a type, without null; of data sections, the one that `source` names."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0], tree)
    if get_origin(kind) not in (Union, UnionType):
        return [] if kind in (Any, type(None)) else [kind]
    members = [member for option in get_args(kind) for member in _members(option, tree)]
    source = tree.get("source") if isinstance(tree, Mapping) else None
    chosen = [m for m in members if _is_model(m) and source in get_args(_annotation(m, "source"))]
    return chosen or members


def _annotation(model: type[BaseModel], name: str, tree: Any = None) -> Any:
    field = model.model_fields.get(name)
    if field is None:
        return None
    marks = [mark for mark in _marks(field.annotation, field.metadata) if isinstance(mark, OfTask)]
    return (marks[0].section(tree) or field.annotation) if marks else field.annotation


def _marks(annotation: Any, metadata: Sequence[Any]) -> list[Any]:
    """What is written beside a type, in the options of a union too."""
    inner = [mark for option in get_args(annotation) for mark in getattr(option, "__metadata__", ())]
    return [*metadata, *inner]


def _fields(kind: Any, source: str | int | None = None) -> dict[str, Any]:
    """Returns name and type of every field of a model, or of all models of a union."""
    models = [member for member in _members(kind, {"source": source}) if _is_model(member)]
    return {name: _annotation(model, name) for model in models for name in model.model_fields}


def _enter(models: list[type[BaseModel]], name: str, at: str, tree: Any) -> tuple[str | None, Any]:
    fields = {field: _annotation(model, field, tree) for model in models for field in model.model_fields}
    if name in fields:
        return None, fields[name]
    inside = f" in {at}" if at else ""
    hint = suggest(name, fields) or f" Fields: {', '.join(fields)}."
    return f"unknown field {name!r}{inside}.{hint}", None


def _absent(group: str, name: str, present: list[str]) -> str:
    noun = _NOUNS.get(group, "entry")
    return (
        f"there is no {noun} {name!r}; this study has {', '.join(present) or 'none'}.{suggest(name, present)}"
    )
