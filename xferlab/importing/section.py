"""The section of a study that reads an import: which mask values mark what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xferlab.data.decode import read_labels
from xferlab.errors import DataError
from xferlab.importing.found import Listing
from xferlab.parallel import for_each

MASK = "mask"
LOOKED_AT = 200
"""Masks whose values are read, of each column."""
FEW_VALUES = 8
STRUCTURE = "structure"


def section_of(listing: Listing, root: Path) -> dict[str, Any]:
    """Returns the configuration of a `manifest` section that reads the table of an import.

    Values of masks are those of up to 200 masks of each column, evenly spread. What they mark is named
    `structure`, or `structure_85` and so on where there are several, unless their column is named for it.
    """
    section: dict[str, Any] = {"source": "manifest", "root": str(root)}
    if not listing.columns:
        return {**section, "read": []}
    labels: dict[str, Any] = {}
    structures: dict[str, Any] = {}
    for column in listing.columns:
        masks = [found.masks[column] for found in listing.images if column in found.masks]
        name = column.removeprefix(f"{MASK}_")
        found = _labels(STRUCTURE if column == MASK else name, _values(masks))
        labels |= found
        structures |= {} if column == MASK else dict.fromkeys(found, column)
    for name, parts in _numbered(structures).items():
        structures[name] = parts
    return {**section, "labels": labels, **({"structures": structures} if structures else {})}


def _numbered(names: Iterable[str]) -> dict[str, list[str]]:
    """Returns the names that differ in a number at their end only, such as `x_1` and `x_2`."""
    parts: dict[str, list[str]] = {}
    for name in names:
        whole, _, number = name.rpartition("_")
        if number.isdigit():
            parts.setdefault(whole, []).append(name)
    return {whole: named for whole, named in parts.items() if len(named) > 1}


def _values(masks: Sequence[Path]) -> list[int]:
    """Returns the values of masks apart from 0; of those that cannot be read, none."""
    step = -(-len(masks) // LOOKED_AT)
    return sorted(set().union(*for_each(masks[::step], _values_of)) - {0})


def _values_of(mask: Path) -> set[int]:
    try:
        return set(np.unique(read_labels(mask).values).tolist())
    except DataError:  # `xferlab check` says what is wrong with it
        return set()


def _labels(name: str, values: Sequence[int]) -> Mapping[str, Any]:
    if len(values) > FEW_VALUES:  # of smooth edges, or of a JPEG
        return {name: {"above": max(values) // 2}}
    if len(values) < 2:
        return {name: [*values] or [255]}
    return {f"{name}_{value}": [value] for value in values}


def as_lines(name: str, section: Mapping[str, Any]) -> Iterable[str]:
    """Yields the lines of the section under `data:` in a study file."""
    import yaml

    text = yaml.safe_dump({name: dict(section)}, sort_keys=False, default_flow_style=None, width=100)
    return [f"  {line}" for line in text.splitlines()]
