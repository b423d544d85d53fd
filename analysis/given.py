"""What the public functions take, checked before pandas or Matplotlib meet it."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from xferlab.analysis.results import StudyResults
from xferlab.errors import UsageError


def check_results(value: object) -> None:
    """Refuses what is not all that is known of a study.

    Raises:
        UsageError: It is something else.
    """
    if not isinstance(value, StudyResults):
        raise _refused("results", f"found {_kind(value)}", "what `load_study` returns")


def check_table(value: object, name: str, columns: Iterable[str], accepted: str) -> None:
    """Refuses what is no table with these columns.

    Args:
        value: What was given.
        name: The name of the argument.
        columns: What it has to have.
        accepted: What is such a table, in words.

    Raises:
        UsageError: It is something else.
    """
    if not isinstance(value, pd.DataFrame):
        raise _refused(name, f"found {_kind(value)}", accepted)
    if lacking := [column for column in columns if column not in value.columns]:
        raise _refused(name, f"the table has no column {', '.join(lacking)}", accepted)


def check_single(table: pd.DataFrame, name: str, columns: Iterable[str], accepted: str) -> None:
    """Refuses rows that differ in one of these columns, as far as the table has them.

    Raises:
        UsageError: They do.
    """
    for column in table.columns.intersection([*columns]):
        if len(values := table[column].unique()) > 1:
            several = ", ".join(map(str, values))
            raise _refused(name, f"the rows are of more than one {column} ({several})", accepted)


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"


def _refused(name: str, what: str, accepted: str) -> UsageError:
    return UsageError(f"{name}: {what}; accepted: {accepted}")
