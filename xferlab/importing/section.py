"""The section of a study that reads an import: which mask values mark what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from xferlab.data.decode import read_labels
from xferlab.data.sources.manifest.config import MASK
from xferlab.errors import DataError
from xferlab.importing.found import PART, TEST, Listing
from xferlab.parallel import for_each

STRUCTURE = "structure"
LOOKED_AT = 200
"""Masks whose values are read, of each column."""
FEW_VALUES = 8


def section_of(listing: Listing, root: Path) -> dict[str, Any]:
    """Returns the configuration of a `manifest` section that reads the table of an import.

    Unless the layout says what they mark, values of masks are those of up to 200 masks of each column, evenly
    spread. In a column of one structure, such as `mask_heart`, all mark it; in `mask` each marks one of its
    own: `structure_85` and so on. Published test images are left out.

    Args:
        listing: The images with their masks.
        root: The folder of the table.
    """
    section: dict[str, Any] = {"source": "manifest", "root": str(root), **_filter(listing)}
    if not listing.columns:
        return {**section, "read": []}
    labels: dict[str, Any] = {}
    structures: dict[str, Any] = {}
    for column in listing.columns:
        marked = _labels(listing, column)
        labels |= marked
        structures |= {} if column == MASK else dict.fromkeys(marked, column)
    structures |= {
        name: [*names] for name, names in listing.parts.items() if all(part in labels for part in names)
    }
    return {**section, "labels": labels, **({"structures": structures} if structures else {})}


def _filter(listing: Listing) -> dict[str, Any]:
    """Returns the filter that keeps published test images away from training."""
    parts = dict.fromkeys(entry.cells.get(PART, "") for entry in listing.images)
    others = [part for part in parts if part != TEST]
    return {"where": {PART: others}} if TEST in parts and others else {}


def _labels(listing: Listing, column: str) -> dict[str, Any]:
    """Returns what the masks of a column mark, with the values of each."""
    if column in listing.labels:
        return {name: [*values] for name, values in listing.labels[column].items()}
    values = _values([entry.masks[column] for entry in listing.images if column in entry.masks])
    return _separate(values) if column == MASK else {column.removeprefix(f"{MASK}_"): _marks(values)}


def _values(masks: Sequence[Path]) -> list[int]:
    """Returns the values of masks apart from 0; of those that cannot be read, none."""
    step = -(-len(masks) // LOOKED_AT)
    return sorted(set().union(*for_each(masks[::step], _values_of)) - {0})


def _values_of(mask: Path) -> set[int]:
    try:
        return set(np.unique(read_labels(mask).values).tolist())
    except DataError:  # `xferlab check` says what is wrong with it
        return set()


def _separate(values: Sequence[int]) -> dict[str, Any]:
    if len(values) < 2 or _is_smooth(values):
        return {STRUCTURE: _marks(values)}
    return {f"{STRUCTURE}_{value}": [value] for value in values}


def _marks(values: Sequence[int]) -> Any:
    return {"above": max(values) // 2} if _is_smooth(values) else [*values] or [255]


def _is_smooth(values: Sequence[int]) -> bool:
    """Whether values are those of smooth edges between 0 and 255, as resizing or JPEG makes them."""
    return len(values) > FEW_VALUES and max(values) >= 2**8 - 2**4


def as_lines(name: str, section: Mapping[str, Any]) -> Iterable[str]:
    """Returns the lines of the section under `data:` in a study file."""
    text = yaml.safe_dump(
        {name: dict(section)}, sort_keys=False, default_flow_style=None, allow_unicode=True, width=10**6
    )
    return [f"  {line}" for line in text.splitlines()]
