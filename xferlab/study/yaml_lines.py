"""Reads a YAML file as plain values, and remembers the line of each of them.

Plain scalars follow YAML 1.2: `1e-3` is a number, and `on`, `no`, `010` and `1:30` do not have the meanings
of YAML 1.1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xferlab.errors import Problem, StudyError

KeyPath = tuple[str | int, ...]

MAX_DEPTH = 32
MAX_VALUES = 100_000
MAX_DIGITS = 100
_TEXT = "tag:yaml.org,2002:str"
_PLAIN = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}
"""The core schema of YAML 1.2 (section 10.3.2); every other scalar without quotes is text."""


class _Loader(yaml.CSafeLoader):
    """PyYAML's loader with the plain scalars of YAML 1.2."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        None: [(tag, re.compile(rf"({pattern})\Z")) for tag, pattern in _PLAIN.items()]
    }


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that `read` would take for something else."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        None: [
            *((f"tag:yaml.org,2002:{tag}", found) for tag, found in _Loader.yaml_implicit_resolvers[None]),
            ("tag:yaml.org,2002:merge", re.compile(r"<<\Z")),
        ]
    }


@dataclass(frozen=True)
class Document:
    """One YAML file.

    Attributes:
        name: The file as messages show it.
        path: Absolute path of the file; the relative paths in it start at its folder.
        value: Plain dicts (keys are always text), lists, text, numbers, booleans and None.
        lines: Line, from 1, of the key or item at each path.
    """

    name: str
    path: Path
    value: Any
    lines: Mapping[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """Returns the line of `path`, or of its nearest ancestor that the file has."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def where(self, path: KeyPath) -> str:
        """Returns `file:line` of a path."""
        return f"{self.name}:{self.line(path)}"


def read(path: Path, *, name: str | None = None) -> Document:
    """Reads one file.

    Args:
        path: The file.
        name: How messages show it; default: the path as given.

    Raises:
        StudyError: It cannot be read, or is not UTF-8 text, or not valid YAML; with the line where known.
    """
    name = name or str(path)
    text = _text(path, name)
    try:
        _check_depth(text, name)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise StudyError.at(
            f"{name}:{line}", "this line has a control character; is this a text file?"
        ) from error
    except yaml.MarkedYAMLError as error:
        raise _invalid_yaml(name, text, error) from error
    values = _Values(name)
    value = values.of(root, ()) if root else None
    if values.problems:
        raise StudyError(values.problems)
    return Document(name, Path(os.path.abspath(path)), value, values.lines)


def written(value: Any, *, width: float = 100, leaves_in_line: bool = False) -> str:
    """Returns plain values as YAML, of which `read` gives equal ones.

    Args:
        value: Dicts, lists, text, numbers, booleans and None.
        width: Where lines are broken.
        leaves_in_line: Whether dicts and lists of single values take one line.
    """
    flow = None if leaves_in_line else False
    return yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, width=width, allow_unicode=True, default_flow_style=flow
    )


def _text(path: Path, name: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        nearby = ", ".join(sorted(map(str, path.parent.glob("*.yaml")))[:8])
        what = "there is no such file." + (f" YAML files in that folder: {nearby}." if nearby else "")
    except UnicodeDecodeError as error:
        what = f"byte {error.start} is not UTF-8 text; a study is a YAML text file"
    except (OSError, ValueError) as error:
        what = f"cannot be read: {getattr(error, 'strerror', None) or error}; name a YAML file"
    raise StudyError.at(name, what)


def _check_depth(text: str, name: str) -> None:
    """Refuses deep nesting before PyYAML composes the file: it recurses, and would end the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise StudyError.at(
                f"{name}:{_line(event)}",
                f"nested deeper than {MAX_DEPTH} levels; a study needs no more than 8",
            )


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _invalid_yaml(name: str, text: str, error: yaml.MarkedYAMLError) -> StudyError:
    mark = error.problem_mark or error.context_mark
    rows = text.splitlines() or [""]
    line = min(mark.line + 1, len(rows)) if mark else 1  # the mark may be behind the last line
    if "cannot start any token" in str(error.problem) and "\t" in rows[line - 1]:
        return StudyError.at(
            f"{name}:{line}", "this line is indented with a tab, and YAML allows only spaces"
        )
    words = ", ".join(filter(None, (error.context, error.problem)))
    return StudyError.at(f"{name}:{line}", f"this is not valid YAML: {words}")


class _Values:
    """Makes plain values of nodes.

    Attributes:
        lines: Path -> line, from 1, of all values so far.
        problems: Keys that are given twice.
    """

    def __init__(self, name: str):
        self.name = name
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []

    def of(self, node: yaml.Node, path: KeyPath) -> Any:
        """Returns the value of a node.

        Args:
            node: The node.
            path: Its path in the file.
        """
        self.lines.setdefault(path, _line(node))
        if len(self.lines) > MAX_VALUES or len(path) > MAX_DEPTH:  # an alias may be inside its own anchor
            raise StudyError.at(
                f"{self.name}:{_line(node)}", "the aliases here expand to far more than a study can hold"
            )
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.of(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            return _scalar(node)
        except ValueError as error:
            raise StudyError.at(f"{self.name}:{_line(node)}", str(error)) from error

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise StudyError.at(
                    f"{self.name}:{_line(key)}", "a key must be a plain word, not a list or a mapping"
                )
            if key.value == "<<" and not key.style:  # in quotes it is a name like any other
                what = (
                    "merge keys (`<<`) are not part of YAML 1.2; repeat the fields, or set them in a profile "
                    "or in an arm that others `include`"
                )
                self.problems.append(Problem(f"{self.name}:{_line(key)}", what))
                continue
            item_path = (*path, key.value)
            if key.value in mapping:
                what = f"{key.value!r} is given twice, first on line {self.lines[item_path]}; keep one"
                self.problems.append(Problem(f"{self.name}:{_line(key)}", what))
                continue
            self.lines[item_path] = _line(key)
            mapping[key.value] = self.of(item, item_path)
        return mapping


def _scalar(node: yaml.Node) -> str | int | float | bool | None:
    """Returns the value of a scalar.

    Raises:
        ValueError: It has a tag that is not understood, or an integer has too many digits.
    """
    text = str(node.value)
    match node.tag:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            if len(text) > MAX_DIGITS:
                raise ValueError(f"this number has {len(text)} digits; at most {MAX_DIGITS} are accepted")
            return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        case str(tag) if tag == _TEXT:
            return text
    raise ValueError(f"the tag {node.tag} is not understood; write the value without a tag")
