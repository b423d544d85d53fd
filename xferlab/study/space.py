"""What a search may vary: distributions over dotted paths of a study, each checked with its line.

A space is a YAML file:

    training.lr: {loguniform: [1.0e-4, 1.0e-2]}
    training.batch_size: {choice: [4, 8, 16]}
    training.plateau.patience: {int: [3, 12]}
    training.rotation: {grid: [null, {degrees: 5}]}

One stage is tuned at a time, so `training.*` means `stages.<that stage>.training.*`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

from xferlab.errors import Problem, StudyError, suggest
from xferlab.study.check import check
from xferlab.study.compose import refusal
from xferlab.study.findings import Report, as_yaml, validated
from xferlab.study.paths import absent_entry, replaced
from xferlab.study.schema import Study
from xferlab.study.yaml_lines import read
from xferlab.tasks.task import Finding

Kind = Literal["uniform", "loguniform", "int", "choice", "grid"]
KINDS: tuple[Kind, ...] = get_args(Kind)
RANGES: tuple[Kind, ...] = ("uniform", "loguniform", "int")
_FORM = "{" + ": [...]} or {".join(KINDS) + ": [...]}"


@dataclass(frozen=True)
class Parameter:
    """One dotted path and the values that it may take.

    Attributes:
        path: Path in the study, that of the stage where the file said `training.`.
        kind: `uniform` and `loguniform`: floats from low to high; `int`: whole numbers, both ends included;
            `choice`: one of the values; `grid`: every value, combined with those of the other grids.
        values: (low, high), or the values in the order of the file.
        written: The path as the file has it.
        line: Its line in the file.
    """

    path: str
    kind: Kind
    values: tuple[Any, ...]
    written: str
    line: int = 0

    @property
    def num_values(self) -> int | None:
        """How many values there are; None for a continuum."""
        if self.kind == "int":
            return int(self.values[1] - self.values[0] + 1)
        return None if self.kind in RANGES else len(self.values)

    def value(self, index: int) -> Any:
        """Returns the value of an index, from 0, of a parameter that is not a continuum."""
        return self.values[0] + index if self.kind == "int" else self.values[index]


@dataclass(frozen=True)
class Space:
    """The parameters of a search, in the order of the file.

    Attributes:
        name: The file as messages show it.
        parameters: At least one.
    """

    name: str
    parameters: tuple[Parameter, ...]

    @property
    def size(self) -> int | None:
        """How many points there are; None if a parameter is a continuum."""
        numbers = [parameter.num_values for parameter in self.parameters]
        finite = [number for number in numbers if number is not None]
        return math.prod(finite) if len(finite) == len(numbers) else None

    def to_json(self) -> list[dict[str, Any]]:
        """Returns the parameters as JSON values."""
        return [
            {"path": parameter.path, "kind": parameter.kind, "values": list(parameter.values)}
            for parameter in self.parameters
        ]

    def applied(self, study: Study, values: Mapping[str, Any]) -> Study:
        """Returns a study with a value for every path of the space.

        Raises:
            StudyError: The values are valid one by one and not together.
        """
        tree = study.model_dump(mode="json", exclude_unset=True)
        for parameter in self.parameters:
            tree = replaced(tree, parameter.path.split("."), values[parameter.path])
        changed, findings = _examined(tree)
        if changed is None or findings:
            shown = ", ".join(f"{path} {_shown(value)}" for path, value in values.items())
            raise StudyError([Problem(self.name, f"with {shown}: {finding.what}") for finding in findings])
        return changed


def load_space(path: str | os.PathLike[str], study: Study, *, stage: str) -> Space:
    """Reads a space and validates every path and every bound against a study.

    Args:
        path: The file.
        study: The arm that is tuned, as a study of its own.
        stage: The stage that is tuned.

    Raises:
        StudyError: With all problems, each with its line.
    """
    document = read(Path(path))
    if not isinstance(document.value, dict) or not document.value:
        raise StudyError.at(
            f"{document.name}:1",
            "a space is a mapping of dotted paths to distributions, such as `training.lr: "
            "{loguniform: [1.0e-4, 1.0e-2]}`",
        )
    report, parameters, tree = Report(), list[Parameter](), study.model_dump(mode="json", exclude_unset=True)
    for written, entry in document.value.items():
        line = document.line((written,))
        try:
            parameter = _parameter(written, entry, stage=stage, line=line)
            _refuse_overlap(parameter, parameters)
        except ValueError as error:
            report.add(f"{document.name}:{line}", str(error))
            continue
        parameters.append(parameter)
        for what in _refused(parameter, tree):
            report.add(f"{document.name}:{line}", what)
    report.raise_errors()
    return Space(document.name, tuple(parameters))


def _parameter(written: str, entry: Any, *, stage: str, line: int) -> Parameter:
    if not isinstance(entry, dict) or len(entry) != 1:
        raise ValueError(f"{written} is {as_yaml(entry)}; it must be {_FORM}")
    [(kind, values)] = entry.items()
    if kind not in KINDS:
        raise ValueError(
            f"{written}: there is no distribution {kind!r}; accepted: {', '.join(KINDS)}."
            f"{suggest(kind, KINDS)}"
        )
    if problem := _bad_values(kind, values):
        raise ValueError(f"{written}: {kind} is {as_yaml(values)}; it must {problem}")
    path = f"stages.{stage}.{written}" if written.startswith("training.") else written
    return Parameter(path, kind, tuple(values), written, line)


def _bad_values(kind: Kind, values: Any) -> str:
    """Returns what the values of a distribution must be, or an empty string if they are that."""
    if not isinstance(values, list) or not values:
        return "be a list of values"
    if kind not in RANGES:
        pairs = combinations(values, 2)
        twice = any(type(value) is type(other) and value == other for value, other in pairs)
        return "have every value once" if twice else ""
    number = int if kind == "int" else (int, float)
    if len(values) != 2 or not all(isinstance(end, number) and not isinstance(end, bool) for end in values):
        return f"be two {'whole ' if kind == 'int' else ''}numbers, [low, high]"
    low, high = values
    if not -math.inf < low < high < math.inf:
        return f"be [low, high] with low < high, not {low}, {high}"
    return "be above 0 for a logarithm" if kind == "loguniform" and low <= 0 else ""


def _refuse_overlap(parameter: Parameter, others: list[Parameter]) -> None:
    for other in others:
        short, long = sorted((parameter.path.split("."), other.path.split(".")), key=len)
        if long[: len(short)] == short:
            raise ValueError(f"{parameter.written} and {other.written} vary the same field; keep one")


def _refused(parameter: Parameter, tree: dict[str, Any]) -> Iterator[str]:
    """Yields why a path does not exist or an arm may not override it, or which values the study refuses."""
    path = tuple(parameter.path.split("."))
    if problem := refusal("arms", path) or absent_entry(tree, path):
        yield problem
        return
    for value in parameter.values:  # the bounds of a range, else every value
        for finding in _examined(replaced(tree, path, value))[1]:
            is_about_path = finding.path == path  # then the message names the value
            yield finding.what if is_about_path else f"with {_shown(value)}: {finding.what}"


def _shown(value: Any) -> str:
    """Returns a value as YAML writes it, also one that has values in it."""
    return json.dumps(value) if isinstance(value, dict | list) else as_yaml(value)


def _examined(tree: dict[str, Any]) -> tuple[Study | None, list[Finding]]:
    study, findings = validated(Study, tree)
    if study is not None:
        findings = [finding for finding in check(study) if finding.severity == "error"]
    return study, findings
