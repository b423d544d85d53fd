"""The section of a study that reads an import: which mask values mark what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xferlab.data.sources.manifest.config import MASK
from xferlab.errors import listed
from xferlab.importing.found import PART, TEST, Listing
from xferlab.importing.mask_values import MaskValues, values_of

STRUCTURE = "structure"
_SHOWN_VALUES = 12


def section_of(listing: Listing, root: Path) -> dict[str, Any]:
    """Returns the configuration of a `manifest` section that reads the table of an import.

    Unless the layout says what they mark, values of masks are those of up to 200 masks of each column, evenly
    spread. In a column of one structure, such as `mask_heart`, all mark it; in `mask` each marks one of its
    own: `structure_85` and so on. Where edges are smooth, a threshold marks one structure. `guesses` says
    which of this is a guess. Published test images are left out.

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
    found = values_of([entry.masks[column] for entry in listing.images if column in entry.masks])
    return _separate(found) if column == MASK else {column.removeprefix(f"{MASK}_"): _marks(found)}


def _separate(found: MaskValues) -> dict[str, Any]:
    if len(found.values) < 2 or found.threshold is not None:
        return {STRUCTURE: _marks(found)}
    return {f"{STRUCTURE}_{value}": [value] for value in found.values}


def _marks(found: MaskValues) -> Any:
    return [*found.values] or [255] if found.threshold is None else {"above": found.threshold}


def guesses(section: Mapping[str, Any], listing: Listing) -> Iterator[str]:
    """Yields what `section_of` guessed of the values of masks, and what to do where a guess is wrong."""
    known = {name for labels in listing.labels.values() for name in labels}
    marks = {name: values for name, values in section.get("labels", {}).items() if name not in known}
    separate = [
        name
        for name in marks
        if name.startswith(f"{STRUCTURE}_") and name not in section.get("structures", {})
    ]
    if separate:
        yield (
            f"masks have several values, and each is a structure now: {', '.join(separate)}. Give them their "
            "names under `labels`; the name `ignore` leaves pixels out"
        )
    for name, values in marks.items():
        if isinstance(values, dict):
            yield (
                f"the masks of {name} have smooth edges or are JPEG files, so all values above "
                f"{values['above']} count as {name}. If values mean several structures, save the masks as "
                "PNG without smooth edges, and name each value under `labels`"
            )
        elif len(values) > 1:
            shown = listed([*map(str, values)], _SHOWN_VALUES)
            yield (
                f"the masks of {name} have the values {shown}, and all of them count as {name}. Under "
                "`labels`, move those that mean something else to `ignore`, which leaves pixels out"
            )
