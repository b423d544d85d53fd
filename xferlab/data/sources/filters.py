"""Which cases of a source belong to a section (`where`), and which ids are one patient (`same_patient`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from xferlab.cohort import Case
from xferlab.cohort.labels import matches
from xferlab.data.sources.manifest.table import Row, Table
from xferlab.data.sources.source import Survey
from xferlab.errors import Problem, suggest
from xferlab.section import Scalar

Where = Mapping[str, Scalar | Sequence[Scalar]]
_SHOWN = 12


def apply_where(section: str, table: Table, where: Where) -> tuple[list[Row], list[Problem]]:
    """Returns the rows whose columns have the wanted values, and problems with filters that match nothing.

    Values match as `cohort.labels.matches` says.
    """
    filters = {name: [v] if isinstance(v, str | int | float) else list(v) for name, v in where.items()}
    problems = list(_filter_problems(section, table, filters))
    usable = {name: wanted for name, wanted in filters.items() if name in table.columns}
    rows = [
        row
        for row in table.rows
        if all(any(matches(row.cells[name], want) for want in wanted) for name, wanted in usable.items())
    ]
    if not rows and not problems:
        what = f"no row of {table.path} passes all of {dict(where)}; loosen one of them."
        problems = [Problem(f"data.{section}.where", what)]
    return rows, problems


def _filter_problems(section: str, table: Table, filters: Mapping[str, list[Scalar]]) -> Iterator[Problem]:
    for name, wanted in filters.items():
        place = f"data.{section}.where.{name}"
        if name not in table.columns:
            columns = ", ".join(table.columns)
            what = f"{table.path} has no such column (columns: {columns}).{suggest(name, table.columns)}"
            yield Problem(place, what)
            continue
        values = sorted({row.cells[name] for row in table.rows})
        for want in wanted:
            if not any(matches(value, want) for value in values):
                shown = ", ".join(map(repr, values[:_SHOWN])) + (", ..." if len(values) > _SHOWN else "")
                what = f"no row of {table.path} has {want!r} (values: {shown}).{suggest(str(want), values)}"
                yield Problem(place, what)


def select_cases(section: str, source: str, cases: Sequence[Case], where: Where) -> Survey:
    """Returns the cases of a source without a table, filtered as if their fields were its columns.

    Args:
        section: As in the study, for messages.
        source: What to call the absent table in messages.
        cases: All cases of the source.
        where: The section's filter, on `name`, `patient_id` and `pathology`.
    """
    rows = tuple(
        Row(source, {"name": case.name, "patient_id": case.patient, "pathology": case.pathology, "n": str(n)})
        for n, case in enumerate(cases)
    )
    table = Table(Path(source), ("name", "patient_id", "pathology"), rows)
    kept, problems = apply_where(section, table, where)
    chosen = (cases[int(row.cells["n"])] for row in kept)
    return Survey(tuple(sorted(chosen, key=lambda case: (case.patient, case.name))), tuple(problems))


def join_patients(groups: Iterable[Iterable[str]]) -> dict[str, str]:
    """Returns patient id -> the alphabetically first id of all that are the same person.

    Groups that share an id are one group, whatever their order.
    """
    joined: dict[str, set[str]] = {}
    for group in groups:
        members = set(group).union(*(joined.get(patient, ()) for patient in group))
        joined.update(dict.fromkeys(members, members))
    return {patient: min(members) for patient, members in joined.items()}
