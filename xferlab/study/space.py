"""What a search may vary: distributions over dotted paths of a study, each checked with its line.

A space is a YAML file:

    training.lr: {loguniform: [1.0e-4, 1.0e-2]}
    training.batch_size: {choice: [4, 8, 16]}
    training.plateau.patience: {int: [3, 12]}
    training.loss: {grid: [dice, dice_as_printed]}

One stage is tuned at a time, so `training.*` means `stages.<that stage>.training.*`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import ValidationError

from xferlab.errors import Problem, StudyError, suggest
from xferlab.study.check import check
from xferlab.study.compose import Override, refused_in_arms
from xferlab.study.findings import Finding, Report, found, of_validation
from xferlab.study.paths import complaint, replaced
from xferlab.study.schema import Study
from xferlab.study.yaml_lines import Document, read

Kind = Literal["uniform", "loguniform", "int", "choice", "grid"]
KINDS: tuple[Kind, ...] = ("uniform", "loguniform", "int", "choice", "grid")
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

    def value(self, place: int) -> Any:
        """Returns the value at a place, from 0, of a parameter that has a number of values."""
        return self.values[0] + place if self.kind == "int" else self.values[place]


@dataclass(frozen=True)
class Space:
    """The parameters of a search, in the order of the file.

    Attributes:
        name: The file as messages show it.
        stage: The stage that is tuned.
        parameters: At least one.
    """

    name: str
    stage: str
    parameters: tuple[Parameter, ...]

    @property
    def size(self) -> int | None:
        """How many points there are; None if a parameter is a continuum."""
        numbers = [one.num_values for one in self.parameters]
        return None if None in numbers else math.prod(cast("list[int]", numbers))

    def to_json(self) -> list[dict[str, Any]]:
        """Returns the parameters as JSON values."""
        return [{"path": one.path, "kind": one.kind, "values": list(one.values)} for one in self.parameters]

    def applied(self, study: Study, values: Mapping[str, Any]) -> Study:
        """Returns a study with a value for every path of the space.

        Raises:
            StudyError: The values are valid one by one and not together.
        """
        tree = _tree(study)
        for one in self.parameters:
            tree = replaced(tree, one.path.split("."), values[one.path])
        changed, findings = _examined(tree)
        if changed is None or findings:
            shown = ", ".join(f"{path} {found(value)}" for path, value in values.items())
            raise StudyError([Problem(self.name, f"with {shown}: {one.what}") for one in findings])
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
        what = "a space is a mapping of dotted paths to distributions, such as `training.lr: "
        raise StudyError(Problem(f"{document.name}:1", what + "{loguniform: [1.0e-4, 1.0e-2]}`"))
    report = Report()
    parameters = tuple(_parameters(document, stage, report))
    for place, one in enumerate(parameters):
        clash = next((other for other in parameters[:place] if _overlap(one.path, other.path)), None)
        if clash:
            report.add(
                (document.name, one.line), f"{one.written} and {clash.written} vary the same field; keep one"
            )
        else:
            _probe(document, one, _tree(study), report)
    report.raise_errors()
    return Space(document.name, stage, parameters)


def _parameters(document: Document, stage: str, report: Report) -> Iterator[Parameter]:
    for written, entry in document.value.items():
        position = (document.name, document.line((written,)))
        path = f"stages.{stage}.{written}" if written.startswith("training.") else written
        if not isinstance(entry, dict) or len(entry) != 1:
            report.add(position, f"{written} is {found(entry)}; it must be {_FORM}")
            continue
        [(kind, values)] = entry.items()
        if kind not in KINDS:
            what = f"{written}: there is no distribution {kind!r}; there is {', '.join(KINDS)}."
            report.add(position, what + suggest(kind, KINDS))
        elif problem := _bad_values(kind, values):
            report.add(position, f"{written}: {kind} is {found(values)}; {problem}")
        else:
            yield Parameter(path, kind, tuple(values), written, position[1])


def _bad_values(kind: Kind, values: Any) -> str:
    """Returns what the values of a distribution must be, or an empty string if they are that."""
    if kind not in RANGES:
        if not isinstance(values, list) or not values:
            return "it must be a list of values"
        same = any(_same(one, other) for i, one in enumerate(values) for other in values[:i])
        return "it must have every value once" if same else ""
    number = int if kind == "int" else (int, float)
    if not isinstance(values, list) or len(values) != 2:
        return "it must be [low, high]"
    if not all(isinstance(one, number) and not isinstance(one, bool) for one in values):
        return f"it must be two {'whole ' if kind == 'int' else ''}numbers, [low, high]"
    low, high = values
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        return f"it must be [low, high] with low < high, not {low}, {high}"
    return "it must be above 0 for a logarithm" if kind == "loguniform" and low <= 0 else ""


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _overlap(one: str, other: str) -> bool:
    short, long = sorted((one.split("."), other.split(".")), key=len)
    return long[: len(short)] == short


def _probe(document: Document, parameter: Parameter, tree: dict[str, Any], report: Report) -> None:
    """Reports an unknown path, one that an arm may not override, and values that the study refuses."""
    path, position = tuple(parameter.path.split(".")), (document.name, parameter.line)
    if problem := complaint(tree, path):
        report.add(position, problem)
        return
    override = Override(path, parameter.values[0], document, (parameter.written,))
    if not refused_in_arms([override], report, "tuned"):
        return
    for value in parameter.values:  # the bounds of a range, else every value
        for finding in _examined(replaced(tree, path, value))[1]:
            report.add(position, f"with {found(value)}: {finding.what}")


def _examined(tree: dict[str, Any]) -> tuple[Study | None, list[Finding]]:
    try:
        study = Study.model_validate(tree)
    except ValidationError as error:
        return None, of_validation(error, tree)
    return study, [finding for finding in check(study) if finding.severity == "error"]


def _tree(study: Study) -> dict[str, Any]:
    return study.model_dump(mode="json")
