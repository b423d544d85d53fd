"""Labels of whole images: the class that a case has by its value in a column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from xferlab.cohort.case import Case

Value = str | int | float | bool


def matches(cell: str, wanted: Value) -> bool:
    """Returns whether the text of a cell is a value.

    A number matches by value (1 and "1.0"), true and false match true/yes/1 and false/no/0, text matches
    exactly.
    """
    if isinstance(wanted, bool):
        return cell.lower() in (("true", "yes", "1") if wanted else ("false", "no", "0"))
    if isinstance(wanted, str):
        return cell == wanted
    try:
        return float(cell) == wanted
    except ValueError:
        return False


@dataclass(frozen=True)
class Labelling:
    """The classes of a stage.

    Attributes:
        column: Of the data sections.
        classes: Name and values of each class, in the order of the labels.
    """

    column: str
    classes: tuple[tuple[str, tuple[Value, ...]], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the labels."""
        return tuple(name for name, _ in self.classes)

    def classes_of(self, cell: str) -> tuple[str, ...]:
        """Returns the names of the classes that a value is in: at most one in a study that is planned."""
        return tuple(name for name, values in self.classes if any(matches(cell, value) for value in values))

    def labels(self, cases: Iterable[Case]) -> Mapping[str, int]:
        """Returns the label of each case that has one, the number of its class from 0, by digest."""
        cells = {case.digest: case.columns.get(self.column, "") for case in cases}
        named = {cell: self.classes_of(cell) for cell in set(cells.values())}
        numbers = {cell: self.names.index(names[0]) for cell, names in named.items() if names}
        return {digest: numbers[cell] for digest, cell in cells.items() if cell in numbers}
