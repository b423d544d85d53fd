"""Paths into a study, and a study as plain values with one value replaced or left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from xferlab.errors import suggest
from xferlab.study.yaml_lines import KeyPath

GROUPS = {"data": "data section", "stages": "stage"}
"""The groups of named entries of a study, and what an entry is."""


def dotted(path: Iterable[str | int]) -> str:
    """Returns a path as a study file writes it: `stages.general.evaluate_on[1]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "the study"


def absent_entry(tree: Mapping[str, Any], path: Sequence[str], *, adds: bool = True) -> str | None:
    """Returns why a path into a section or stage of the study `tree` leads nowhere, or None if it does not.

    A path that ends with the name of a section or stage adds it where it has a value (`adds`).
    """
    noun, entries = GROUPS.get(path[0]), tree.get(path[0])
    if noun is None or len(path) < (3 if adds else 2) or not isinstance(entries, dict) or path[1] in entries:
        return None
    listed = ", ".join(entries) or "none"
    return f"there is no {noun} {path[1]!r}; this study has {listed}.{suggest(path[1], entries)}"


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
