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


def grouped(problems: Iterable[Problem], *, shown: int = _SHOWN) -> list[Problem]:
    """Returns one problem for each kind, in the order in which kinds first appear.

    Problems are of one kind if they say so, or if their words agree but for numbers, paths and quotations.
    The first of a kind stands for all, with the number and the places of the others; so several problems of
    one place, which say different things about it, remain.

    Args:
        problems: Any number of them.
        shown: How many places of the others are listed.
    """
    groups: dict[tuple[str, str, int], list[Problem]] = defaultdict(list)
    at_place: Counter[tuple[str, str, str]] = Counter()
    for problem in problems:
        kind = problem.kind or _OF_A_FILE.sub("#", problem.what)
        number = at_place[problem.severity, kind, problem.where]
        at_place[problem.severity, kind, problem.where] += 1
        groups[problem.severity, kind, number].append(problem)
    return [_one(group, shown) for group in groups.values()]


def counted(problems: Sequence[Problem]) -> str:
    """Returns how many warnings of each kind there are: `3 warnings: repeated rows (2), others (1)`."""
    counts = Counter(problem.kind or "others" for problem in problems)
    listed = ", ".join(f"{kind} ({count})" for kind, count in counts.items())
    number = "1 warning" if len(problems) == 1 else f"{len(problems)} warnings"
    return number if set(counts) == {"others"} else f"{number}: {listed}"


def _one(group: Sequence[Problem], shown: int) -> Problem:
    first, *rest = group
    if not rest:
        return first
    listed = ", ".join(_short(problem.where, first.where) for problem in rest[:shown])
    more = ", ..." if len(rest) > shown else ""
    return replace(first, what=f"{first.what} ({len(rest)} more like this: {listed}{more})")


def _short(place: str, first: str) -> str:
    """A place without the section or folder that it shares with the first."""
    section, folder = f"{first.rpartition(': ')[0]}: ", f"{first.rpartition('/')[0]}/"
    return place.removeprefix(folder).removeprefix(section)
