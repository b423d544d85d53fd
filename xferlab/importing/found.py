"""What an import finds: images with their masks, and files that belong to none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xferlab.data.sources.manifest.table import REQUIRED
from xferlab.errors import Problem

IMAGE, PATIENT = REQUIRED
"""Columns of the table."""


@dataclass(frozen=True)
class Entry:
    """An image with its masks.

    Attributes:
        image: The file.
        masks: Its masks by their columns of the table; a structure that it lacks is left out.
        cells: What else is known of it, by column.
    """

    image: Path
    masks: Mapping[str, Path] = field(default_factory=dict)
    cells: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """All that a layout holds.

    Attributes:
        images: In the order of their names.
        left_out: Files that are not used, each with the reason.
    """

    images: tuple[Entry, ...]
    left_out: tuple[Problem, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of masks, in the order in which they occur."""
        return tuple(dict.fromkeys(column for entry in self.images for column in entry.masks))
