"""A table as a value: groups of rows of finished text, and the tidy numbers behind them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import pandas as pd

ABSENT = "–"
_DECIMALS = {"": 4, "px": 2, "mm": 2, "count": 2, "ms": 1, "s": 1}


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
        title: `Table 3: ...`.
        caption: Sentences that say what every number is.
        notes: Sentences that a reader must know besides.
        head: Names of the columns that name a group.
        stub: Heading of the rows' labels.
        columns: Headings of the cells, with units.
        groups: The lines.
        data: The same numbers, tidy and with full precision; becomes the CSV.
    """

    name: str
    title: str
    caption: tuple[str, ...]
    notes: tuple[str, ...]
    head: tuple[str, ...]
    stub: str
    columns: tuple[str, ...]
    groups: tuple[Group, ...]
    data: pd.DataFrame


def number(value: object, unit: str = "", *, signed: bool = False) -> str:
    """Returns a number with the decimals of its unit; a dash for NaN or None."""
    if value is None or pd.isna(value):  # type: ignore[call-overload]
        return ABSENT
    text = f"{float(value):{'+' if signed else ''},.{_DECIMALS.get(unit, 4)}f}"  # type: ignore[arg-type]
    return text.replace("-", "−")


def p_value(value: float) -> str:
    """Returns a p-value with three decimals; a dash for NaN."""
    if math.isnan(value):
        return ABSENT
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def interval(low: float, high: float, unit: str = "") -> str:
    """Returns `[low, high]` with signs; a dash for NaN."""
    if math.isnan(low) or math.isnan(high):
        return ABSENT
    return f"[{number(low, unit, signed=True)}, {number(high, unit, signed=True)}]"


def with_unit(label: str, unit: str) -> str:
    """Returns a heading with its unit in parentheses; none for dimensionless values and counts."""
    return f"{label} ({unit})" if unit not in ("", "count") else label


def file_name(text: str) -> str:
    """Returns text from data as a part of a file name: letters, digits, `_`, `-` and `.` stay."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.") or "unnamed"
