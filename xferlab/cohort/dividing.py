"""Seeded orders and whole sizes: how the members of strata are divided, whatever for.

A draw is what an order is a function of: the study's seed and a purpose.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

Stratum = tuple[tuple[str, ...], str]
"""The sections that a unit appears in, and its most frequent pathology."""
Draw = tuple[object, ...]


def rank(*coordinates: object) -> float:
    """Returns a number in [0, 1) that is a pure function of the coordinates (SHA-256, 53 bits)."""
    text = "\x1f".join(map(str, coordinates))
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 11) / (1 << 53)


def divide(strata: Mapping[str, Stratum], shares: Sequence[float], draw: Draw) -> dict[str, int]:
    """Returns the number of the part of each unit; parts have `shares` of each stratum.

    Each stratum is divided by largest remainder; what rounding leaves over carries to the next stratum.
    Strata come in a seeded order, so that leftovers fall to another stratum in each draw. A stratum of one or
    two units still gets the same sizes each time where the others leave nothing over.
    """
    carried = [0.0] * len(shares)
    parts: dict[str, int] = {}
    for units in _in_seeded_order(strata, draw):
        wanted = [share * len(units) + rest for share, rest in zip(shares, carried, strict=True)]
        sizes = largest_remainder(wanted, len(units))
        carried = [want - size for want, size in zip(wanted, sizes, strict=True)]
        bounds = [index for index, size in enumerate(sizes) for _ in range(size)]
        parts.update(zip(units, bounds, strict=True))
    return parts


def deal(strata: Mapping[str, Stratum], number: int, draw: Draw) -> dict[str, int]:
    """Returns the number (from 0) of the fold of each unit: dealt in turn, stratum after stratum.

    Sizes of folds differ by one at most, within each stratum as in all.
    """
    in_order = (unit for units in _in_seeded_order(strata, draw) for unit in units)
    return {unit: position % number for position, unit in enumerate(in_order)}


def _in_seeded_order(strata: Mapping[str, Stratum], draw: Draw) -> list[list[str]]:
    """The units of each stratum in seeded order, and so are the strata: by their first unit."""
    members: dict[Stratum, list[str]] = defaultdict(list)
    for unit in sorted(strata, key=lambda unit: (rank(*draw, unit), unit)):
        members[strata[unit]].append(unit)
    return list(members.values())


def largest_remainder(wanted: Sequence[float], total: int) -> list[int]:
    """Returns whole sizes that sum to `total` and are nearest to `wanted` (which may dip below zero).

    Ties go to the later part, so that a test or validation part is filled before training takes all.
    """
    sizes = [max(0, int(want // 1)) for want in wanted]
    while sum(sizes) < total:
        sizes[max(range(len(sizes)), key=lambda i: (round(wanted[i] - sizes[i], 9), i))] += 1
    while sum(sizes) > total:
        occupied = [i for i in range(len(sizes)) if sizes[i]]
        sizes[min(occupied, key=lambda i: (round(wanted[i] - sizes[i], 9), i))] -= 1
    return sizes
