"""A table as a value: groups of rows of finished text, and the tidy numbers behind them."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from xferlab.metrics.metric import Metric

ABSENT = "–"
_MOST_DECIMALS = 12
_DECIMALS = {"": 4, "px": 2, "mm": 2, "count": 2, "ms": 1, "s": 1}

_STARS = ((0.05, "*"), (0.01, "**"), (0.001, "***"))
STARS = ", ".join(f"{mark} p < {bound:g}" for bound, mark in _STARS)
"""What the marks of `starred` say, as papers print them."""

Record = Mapping[Any, Any]
"""Values or texts of one line, by name."""


@dataclass(frozen=True)
class Row:
    """One line of a group.

    Attributes:
        label: What the line is.
        cells: One finished text per column.
    """

    label: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Lines that belong together.

    Attributes:
        labels: One text per entry of the table's `head`.
        rows: The lines.
    """

    labels: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, eq=False)
class Table:
    """One table.

    Attributes:
        name: File stem.
        title: What it shows.
        caption: Sentences that say what every number is.
        notes: Other sentences that a reader must know.
        data: The same numbers, tidy and with full precision; becomes the CSV.
        head: Names of the columns that name a group.
        stub: Heading of the rows' labels.
        columns: Headings of the cells, with units.
        groups: The lines.
        subject: What it shows, as names and values. A paper's table with the same subject gives the number.
        prose: Whether its cells are sentences and not numbers.
    """

    name: str
    title: str
    caption: tuple[str, ...]
    notes: tuple[str, ...]
    data: pd.DataFrame
    head: tuple[str, ...] = ()
    stub: str = ""
    columns: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    subject: Mapping[str, str] = field(default_factory=dict)
    prose: bool = False

    def __repr__(self) -> str:
        return f"Table({self.name!r}: {self.title}; {self.num_lines} lines)"

    @property
    def num_lines(self) -> int:
        """How many lines it prints."""
        return sum(len(group.rows) for group in self.groups)


Column = tuple[str, str]
"""A heading, with its unit, and the name of its text in a record."""


@dataclass(frozen=True)
class Layout:
    """The columns of a table.

    Attributes:
        head: Columns that name a group.
        stub: The rows' labels.
        columns: The cells.
    """

    head: Sequence[Column]
    stub: Column
    columns: Sequence[Column]

    def fill(self, table: Table, records: Iterable[Record]) -> Table:
        """Returns a table with a line for each record; those that name the same group stand together."""
        groups: dict[tuple[str, ...], list[Row]] = {}
        for record in records:
            labels = tuple(str(record[key]) for _, key in self.head)
            cells = tuple(str(record[key]) for _, key in self.columns)
            groups.setdefault(labels, []).append(Row(str(record[self.stub[1]]), cells))
        return replace(
            table,
            head=tuple(heading for heading, _ in self.head),
            stub=self.stub[0],
            columns=tuple(heading for heading, _ in self.columns),
            groups=tuple(Group(labels, tuple(rows)) for labels, rows in groups.items()),
        )


def number(value: object, unit: str = "", *, signed: bool = False) -> str:
    """Returns a number with the decimals of its unit; a dash for NaN or None."""
    if value is None or pd.isna(value):  # type: ignore[call-overload]
        return ABSENT
    text = f"{float(value):{'+' if signed else ''},.{_DECIMALS.get(unit, 4)}f}"  # type: ignore[arg-type]
    return text.replace("-", "−")


def _decimals(value: float, least: int, bounds: Collection[float]) -> int:
    """Returns with how many decimals a value is printed on that side of each bound on which it lies."""

    def is_told_apart(decimals: int) -> bool:
        shown = float(f"{value:.{decimals}f}")
        return all((shown < b, shown > b) == (value < b, value > b) for b in bounds)

    return next(filter(is_told_apart, range(least, _MOST_DECIMALS)), least)


def p_value(value: float) -> str:
    """Returns a p-value with three decimals, more where it would round up to a bound; a dash for NaN."""
    if math.isnan(value):
        return ABSENT
    # Those that round down to a bound are not below it, as the text says.
    bounds = [bound for bound, _ in _STARS if value < bound]
    return "<0.001" if value < 0.001 else f"{value:.{_decimals(value, 3, bounds)}f}"


def starred(value: float) -> str:
    """Returns a p-value with its mark, `0.003 **`, of those of `STARS`; without one from 0.05 on."""
    marks = [mark for bound, mark in _STARS if value < bound]
    return " ".join((p_value(value), *marks[-1:]))


def interval(low: float, high: float, unit: str = "", *, margin: float = 0.0) -> str:
    """Returns `[low, high]` with signs; a dash for NaN.

    An end that would round to 0, or to the margin on either side of it, has more decimals.
    """
    if math.isnan(low) or math.isnan(high):
        return ABSENT
    least, bounds = _DECIMALS.get(unit, 4), (-margin, 0.0, margin)
    ends = (f"{end:+,.{_decimals(end, least, bounds)}f}" for end in (low, high))
    return f"[{', '.join(ends)}]".replace("-", "−")


def measured(value: object, unit: str, *, signed: bool = False) -> str:
    """Returns a number as `number` does, followed by its unit; none for dimensionless values and counts."""
    text = number(value, unit, signed=signed)
    return f"{text} {unit}" if unit not in ("", "count") else text


def heading_of(metric: Metric) -> str:
    """Returns the label of a metric with its unit, if it has one."""
    return with_unit(metric.label, metric.unit)


def with_unit(label: str, unit: str) -> str:
    """Returns a heading with its unit in parentheses; none for dimensionless values and counts."""
    return f"{label} ({unit})" if unit not in ("", "count") else label


def file_name(text: str) -> str:
    """Returns text from data as a part of a file name: letters, digits, `_`, `-` and `.` stay."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.") or "unnamed"
