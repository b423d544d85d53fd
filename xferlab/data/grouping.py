"""Many findings of one kind as one, so that the others are seen."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from xferlab.errors import Problem

_SHOWN = 5
_OF_A_FILE = re.compile(r"'[^']*'|`[^`]*`|\S*[\d/]\S*")
"""What differs between messages of one kind: quotations, numbers, paths."""

_FOLDER = re.compile(r"(.*(/|: ))?")
"""What stands before the name of a file or case."""


def grouped(problems: Iterable[Problem], *, shown: int = _SHOWN) -> list[Problem]:
    """Returns one problem for each kind, in the order in which kinds first appear.

    Problems are of one kind if they say so, or if their words agree but for numbers, paths and quotations.
    The first of a kind stands for all, with the number and the places of the others.

    Args:
        problems: Any number of them.
        shown: How many places of the others are listed.
    """
    groups: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        groups[problem.severity, problem.kind or _OF_A_FILE.sub("#", problem.what)].append(problem)
    return [_one(group, shown) for group in groups.values()]


def counted(problems: Iterable[Problem]) -> str:
    """Returns how many problems of each kind there are, in words: `3 repeated rows, 2 others`."""
    counts = Counter(problem.kind for problem in problems)
    unnamed = counts.pop("", 0)
    words = [f"{count} {kind}" for kind, count in counts.items()]
    others = (
        ("other" if unnamed == 1 else "others") if counts else ("warning" if unnamed == 1 else "warnings")
    )
    return ", ".join([*words, *([f"{unnamed} {others}"] if unnamed else [])])


def _one(group: Sequence[Problem], shown: int) -> Problem:
    first, *rest = group
    if not rest:
        return first
    places = list(dict.fromkeys(problem.where for problem in rest if problem.where != first.where))
    folder = _FOLDER.match(first.where)
    before = folder[0] if folder else ""
    listed = ", ".join(place.removeprefix(before) for place in places[:shown])
    more = ", ..." if len(places) > shown else ""
    return replace(
        first, what=f"{first.what} ({len(rest)} more like this{': ' if listed else ''}{listed}{more})"
    )
