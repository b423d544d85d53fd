"""Reads a YAML file as plain values, and remembers on which line each of them stands.

Plain scalars follow YAML 1.2: `1e-3` is a number, and `on`, `no`, `010` and `1:30` are not what YAML 1.1
makes of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xferlab.errors import Problem, StudyError

KeyPath = tuple[str | int, ...]

MAX_DEPTH = 32
MAX_VALUES = 100_000
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True)
class Document:
    """One YAML file.

    Attributes:
        name: The file as messages show it.
        folder: Absolute folder of the file; what it refers to is looked for from here.
        value: Plain dicts (keys are always text), lists, text, numbers, booleans and None.
        lines: Line, from 1, of the key or item at each path.
    """

    name: str
    folder: str
    value: Any
    lines: Mapping[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """Returns the line of `path`, or of its nearest ancestor that the file has."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


@dataclass(frozen=True, slots=True)
class _Node:
    line: int
    content: Any
    """A scalar, a list of nodes, or a list of pairs of nodes."""
    is_mapping: bool = False


def read(path: Path, *, name: str | None = None) -> Document:
    """Reads one file.

    Args:
        path: The file.
        name: How messages show it; default: the path as given.

    Raises:
        StudyError: It cannot be read, is no UTF-8 text, or is no YAML; with the line where known.
    """
    name = name or str(path)
    text = _text(path, name)
    builder = _Builder(name, yaml.parse(text, Loader=_PARSER))
    try:
        value, lines = builder.build()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _bad(name, line, "a control character stands here; is this a text file?") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        rows = text.splitlines() or [""]
        line = min(mark.line + 1, len(rows)) if mark else 1  # the mark may stand behind the last line
        raise _bad(name, line, _syntax(error, rows[line - 1])) from error
    return Document(name, os.path.dirname(os.path.abspath(path)), value, lines)


def _text(path: Path, name: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        nearby = sorted(str(file) for file in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = f" YAML files in that folder: {', '.join(nearby[:8])}." if nearby else ""
        raise _bad(name, None, f"there is no such file.{hint}") from None
    except IsADirectoryError:
        raise _bad(name, None, "this is a folder; name a YAML file in it") from None
    except UnicodeDecodeError as error:
        raise _bad(name, None, f"byte {error.start} is no UTF-8 text; a study is a YAML text file") from None
    except ValueError as error:
        raise _bad(name, None, f"this is no file name: {error}") from None
    except OSError as error:
        raise _bad(name, None, f"cannot be read: {error.strerror or error}") from error


def _bad(name: str, line: int | None, what: str) -> StudyError:
    return StudyError(Problem(name if line is None else f"{name}:{line}", what))


def _syntax(error: yaml.MarkedYAMLError, row: str) -> str:
    if "cannot start any token" in str(error.problem) and "\t" in row:
        return "a tab stands where YAML allows only spaces; indent with spaces"
    context = f", {error.context}" if error.context else ""
    return f"this is not valid YAML: {error.problem}{context}"


class _Builder:
    """Builds values from parser events; never recurses deeper than `MAX_DEPTH`, unlike PyYAML's composer."""

    def __init__(self, name: str, events: Iterator[Any]):
        self.name = name
        self.events = events
        self.anchors: dict[str, _Node] = {}
        self.problems: list[Problem] = []
        self.lines: dict[KeyPath, int] = {}
        self.num_values = 0

    def build(self) -> tuple[Any, dict[KeyPath, int]]:
        root = _Node(1, None)
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._fail(event, "a second YAML document begins; a file holds one")
            elif isinstance(event, yaml.NodeEvent):
                root = self._node(event, 0)
        value = self._value(root, ())
        if self.problems:
            raise StudyError(self.problems)
        return value, self.lines

    def _fail(self, event: Any, what: str) -> None:
        raise _bad(self.name, event.start_mark.line + 1, what)

    def _node(self, event: Any, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            self._fail(event, f"nested deeper than {MAX_DEPTH} levels; a study needs no more than 8")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                self._fail(event, f"the alias *{event.anchor} has no anchor &{event.anchor} before it")
            return self.anchors[str(event.anchor)]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.ScalarEvent):
            node = _Node(line, self._scalar(event))
        elif isinstance(event, yaml.MappingStartEvent):
            node = _Node(line, self._pairs(depth), is_mapping=True)
        else:
            node = _Node(line, [self._node(item, depth + 1) for item in self._until(yaml.SequenceEndEvent)])
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def _until(self, end: type) -> Iterator[Any]:
        for event in self.events:
            if isinstance(event, end):
                return
            yield event

    def _pairs(self, depth: int) -> list[tuple[_Node, _Node]]:
        pairs = []
        for event in self._until(yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._fail(event, "a key must be a plain word, not a list, a mapping or an alias")
            key = _Node(event.start_mark.line + 1, event.value)
            pairs.append((key, self._node(next(self.events), depth + 1)))
        return pairs

    def _scalar(self, event: Any) -> Any:
        plain = event.tag is None and event.implicit[0]
        if plain:
            try:
                return plain_scalar(event.value)
            except ValueError:
                self._fail(event, "this number has too many digits")
        if event.tag not in (None, "!", _TAG + "str"):
            self._fail(event, f"the tag {event.tag} is not understood; write the value without a tag")
        return event.value

    def _value(self, node: _Node, path: KeyPath) -> Any:
        self.num_values += 1
        if self.num_values > MAX_VALUES or len(path) > MAX_DEPTH:
            raise _bad(self.name, node.line, "the aliases here expand to far more than a study can hold")
        self.lines.setdefault(path, node.line)
        if node.is_mapping:
            return self._mapping(node, path)
        if isinstance(node.content, list):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.content)]
        return node.content

    def _mapping(self, node: _Node, path: KeyPath) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key, item in node.content:
            here = (*path, key.content)
            if key.content in value:
                first = self.lines[here]
                problem = f"{key.content!r} is given twice, first on line {first}; keep one"
                self.problems.append(Problem(f"{self.name}:{key.line}", problem))
                continue
            self.lines[here] = key.line
            value[key.content] = self._value(item, here)
        return value


def plain_scalar(text: str) -> str | int | float | bool | None:
    """Returns what a scalar without quotes means in YAML 1.2's core schema.

    Raises:
        ValueError: An integer has more digits than Python converts.
    """
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _INFINITE.fullmatch(text) else text
