"""Subgroups: columns of the data by whose values a report has tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from xferlab.cohort import Case
from xferlab.errors import suggest
from xferlab.plan.plan import Plan
from xferlab.study.schema import Study
from xferlab.tasks.task import Finding

MAX_VALUES = 30
"""Values of a column above which its images are no groups."""


def of(plan: Plan) -> dict[str, dict[str, list[str]]]:
    """Returns for each column the digests of the evaluated cases by its value; empty cells are left out.

    An image that stands in several sections has the value of the first that has one.
    """
    evaluated = {
        digest
        for selection in {evaluation.selection for trial in plan.trials for evaluation in trial.evaluations}
        for digest in plan.selections[selection].digests
    }
    columns: dict[str, dict[str, str]] = {column: {} for column in plan.loaded.base.subgroups}
    for _, case, _ in plan.selector.listed():
        for column, values in columns.items() if case.digest in evaluated else ():
            if value := case.columns.get(column):
                values.setdefault(case.digest, value)
    return {column: _by_value(values) for column, values in columns.items()}


def _by_value(values: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {value: [] for value in sorted(set(values.values()))}
    for digest, value in sorted(values.items()):
        groups[value].append(digest)
    return groups


def unfit(study: Study, sections: Mapping[str, Sequence[Case]]) -> Iterator[Finding]:
    """Yields what is wrong with the columns that a study names.

    Args:
        study: The study.
        sections: The cases of its data sections.
    """
    naming = {name for config in study.data.values() for name in config.naming_columns}
    known = {name for cases in sections.values() for case in cases for name in case.columns} - naming
    fit = sorted(name for name in known if not _ungrouped(name, sections))
    listed = f"(columns of groups: {', '.join(fit) or 'none'})."
    for place, column in enumerate(study.subgroups):
        path = ("subgroups", place)
        if column in naming:
            what = f"column {column!r} names people or files, and plans and reports would hold these names"
            yield Finding(path, f"subgroups: {what} {listed}")
        elif column not in known:
            yield Finding(
                path, f"subgroups: no data section has a column {column!r} {listed}{suggest(column, known)}"
            )
        elif found := _ungrouped(column, sections):
            yield Finding(path, f"subgroups: {found}")


def _ungrouped(column: str, sections: Mapping[str, Sequence[Case]]) -> str:
    """Returns that a column has too many values to be one of groups; empty where it has not."""
    cells = [case.columns.get(column, "") for cases in sections.values() for case in cases]
    cells = list(filter(None, cells))
    number = len(set(cells))
    if number <= MAX_VALUES and (2 * number <= len(cells) or number <= 2):
        return ""
    return (
        f"column {column!r} has {number} values for {len(cells)} images; a column of groups has at most "
        f"{MAX_VALUES}, and several images of each. Group the values in a column of the table, such as ages "
        "by decade"
    )
