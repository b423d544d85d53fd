"""What the numbers in masks mark, as the description of a data set says it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xferlab.data.sources.manifest.config import IGNORE
from xferlab.errors import DataError
from xferlab.importing.found import structure_name


def labels_and_regions(labels: Any, *, where: Path) -> tuple[dict[str, list[int]], dict[str, list[str]]]:
    """Returns the values of structures, and regions, which share values, as structures made of others.

    Args:
        labels: Name -> number, or a list of numbers.
        where: The file, for messages.

    Raises:
        DataError: Labels are no numbers, or names of structures agree but for blanks and other signs.
    """
    values = dict(_named(labels, where))
    counts = Counter(value for group in values.values() for value in group)
    if max(counts.values(), default=0) < 2:
        return values, {}
    single = {group[0]: name for name, group in values.items() if len(group) == 1}
    named = {value: single.get(value, f"label_{value}") for value in sorted(counts)}
    regions = {name: [named[value] for value in group] for name, group in values.items() if len(group) > 1}
    return {name: [value] for value, name in named.items()}, regions


def _named(labels: Any, where: Path) -> Iterator[tuple[str, list[int]]]:
    names = set[str]()
    for label, given in labels.items() if isinstance(labels, dict) else ():
        group = given if isinstance(given, list) else [given]
        if not all(isinstance(value, int) for value in group):
            raise DataError.at(where, f"gives the label {label!r} as {given!r}; numbers are accepted.")
        if group in ([0], []):
            continue
        what = f"label {label!r}"
        name = IGNORE if label == IGNORE else structure_name(str(label), names, where=where, what=what)
        names.add(name)
        yield name, group
    if not names - {IGNORE}:
        raise DataError.at(where, "names no label but the background.")
