"""Where a study names files, folders and filters, so that a message about them begins with file and line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from xferlab.errors import Problem
from xferlab.study.compose import Draft
from xferlab.study.findings import Finding, dotted
from xferlab.study.yaml_lines import KeyPath


class Located:
    """The lines of a study's fields, by what messages of other rooms call them."""

    def __init__(self) -> None:
        self._fields: dict[str, tuple[str, str]] = {}

    def note(self, draft: Draft, tree: Any) -> None:
        """Remembers the fields of a draft; those that were noted before stay.

        Args:
            draft: Knows the lines.
            tree: The draft as plain values, with absolute paths.
        """
        for path, name in _named(tree):
            file, line = draft.position(Finding(path, ""))
            self._fields.setdefault(name, (f"{file}:{line}", f"{draft.prefix}{dotted(path)}: "))

    def locate(self, problem: Problem) -> Problem:
        """Returns the problem with file, line and field if it is about one of them, else as it is."""
        if problem.where not in self._fields:
            return problem
        where, field = self._fields[problem.where]
        name = "" if field.endswith(f"{problem.where}: ") else f"{problem.where}: "
        return replace(problem, where=where, what=f"{field}{name}{problem.what}")


def _named(tree: Any) -> Iterator[tuple[KeyPath, str]]:
    """Yields the path of every field that messages name, and how they name it."""
    for section, config in _mappings(tree, "data"):
        root, table = config.get("root"), config.get("table")
        if isinstance(root, str):
            yield ("data", section, "root"), root
            if isinstance(table, str):
                yield ("data", section, "table"), os.path.join(root, table)
        for name in ("labels", "same_patient", "simulate", "where"):
            yield ("data", section, name), f"data.{section}.{name}"
        for name in config["where"] if isinstance(config.get("where"), dict) else ():
            yield ("data", section, "where", name), f"data.{section}.where.{name}"
    for stage, config in _mappings(tree, "stages"):
        weights = config.get("weights")
        if isinstance(weights, dict) and isinstance(weights.get("path"), str):
            yield ("stages", stage, "weights", "path"), weights["path"]


def _mappings(tree: Any, group: str) -> Iterator[tuple[str, dict[str, Any]]]:
    entries = tree.get(group) if isinstance(tree, dict) else None
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        if isinstance(entry, dict):
            yield name, entry
