"""Structures of two sides, such as `left_lung` and `right_lung`: the mean over both, and both as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

LEFT, RIGHT = "left_", "right_"
Sides = tuple[str, str]
"""The left structure and the right one."""


def means_of(structures: Sequence[str]) -> dict[str, Sides]:
    """Returns the sides by the name of their mean: `lung`. A name that stands for something else is left out.

    That is another structure, or two others as one.
    """
    taken = {*structures, *unions_of(structures)}
    return {name: sides for name, sides in _pairs(structures) if name not in taken}


def unions_of(structures: Sequence[str]) -> dict[str, Sides]:
    """Returns the sides by their name as one: `lungs`. The name of another structure is left out."""
    return {f"{name}s": sides for name, sides in _pairs(structures) if f"{name}s" not in structures}


def _pairs(structures: Sequence[str]) -> Iterator[tuple[str, Sides]]:
    for structure in structures:
        name = structure.removeprefix(LEFT)
        if structure.startswith(LEFT) and f"{RIGHT}{name}" in structures:
            yield name, (structure, f"{RIGHT}{name}")
