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


def classes_of_label(label: int, *, several: bool) -> tuple[int, ...]:
    """Returns the numbers of the classes of a label, from 0; with `several`, each bit of it is a class."""
    return (
        tuple(number for number in range(label.bit_length()) if label >> number & 1) if several else (label,)
    )


@dataclass(frozen=True)
class Labelling:
    """The classes of a stage.

    Attributes:
        column: Of the data sections.
        classes: Name and values of each class, in the order of the labels.
        separator: What stands between the values of a cell, so that an image may be of several classes or of
            none; empty where a cell is one value.
    """

    column: str
    classes: tuple[tuple[str, tuple[Value, ...]], ...]
    separator: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the labels."""
        return tuple(name for name, _ in self.classes)

    def values_of(self, cell: str) -> list[str]:
        """Returns the values of a cell; with a separator, none of an empty one."""
        if not self.separator:
            return [cell]
        return [value.strip() for value in cell.split(self.separator) if value.strip()]

    def classes_of(self, cell: str) -> tuple[str, ...]:
        """Returns the names of the classes that a cell is in; one at most, in a plan without separators."""
        named = self.values_of(cell)
        return tuple(
            name
            for name, values in self.classes
            if any(matches(name_in_cell, value) for name_in_cell in named for value in values)
        )

    def names_of(self, label: int) -> tuple[str, ...]:
        """Returns the names of the classes of a label."""
        return tuple(self.names[number] for number in classes_of_label(label, several=bool(self.separator)))

    def labels(self, cases: Iterable[Case]) -> Mapping[str, int]:
        """Returns the label of each case that has one, by digest.

        It is the number of the case's class, from 0; with a separator, the sum of 2^k over the numbers k of
        its classes: 0 for an image whose cell names none of them.
        """
        cells = {case.digest: case.columns.get(self.column, "") for case in cases}
        numbers = {cell: self._label(cell) for cell in set(cells.values())}
        return {digest: label for digest, cell in cells.items() if (label := numbers[cell]) is not None}

    def _label(self, cell: str) -> int | None:
        numbers = [self.names.index(name) for name in self.classes_of(cell)]
        if not self.separator:
            return numbers[0] if numbers else None
        return sum(1 << number for number in numbers) if self.values_of(cell) else None
