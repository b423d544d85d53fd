"""Masks of several structures, drawn from those of single ones, for studies that read them in one column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xferlab.data.decode import read_labels
from xferlab.data.sources.manifest.config import MASK
from xferlab.errors import DataError, attempt
from xferlab.importing.found import Entry, Listing, parted
from xferlab.importing.pictures import write_png
from xferlab.importing.table import common_folder
from xferlab.parallel import for_each

FOLDER = "masks_png"
"""Holds the masks that are drawn, in a folder for each column."""
Columns = Mapping[str, Mapping[str, int]]
"""Column -> structure -> its value. Where structures overlap, the first one counts."""


def with_merged(listing: Listing, columns: Columns) -> Listing:
    """Returns a listing whose images also have masks of several structures, where no structure is missing.

    Args:
        listing: Images with masks of single structures, in the columns `mask_NAME`.
        columns: What masks to make of them; one of a single structure is this structure's file.

    Raises:
        StorageError: A mask cannot be written.
    """
    folder = common_folder(listing) / FOLDER
    results = for_each(listing.images, lambda entry: attempt(_merged, entry, columns, folder))
    _, problems = parted(results, "masks that cannot be merged")
    images = (
        entry if isinstance(result, DataError) else result
        for entry, result in zip(listing.images, results, strict=True)
    )
    return replace(listing, images=tuple(images), left_out=(*listing.left_out, *problems))


def _merged(entry: Entry, columns: Columns, folder: Path) -> Entry:
    """Returns an image with its masks of several structures.

    Raises:
        DataError: A mask cannot be read, or has another size than the others.
        StorageError: A mask cannot be written.
    """
    merged = dict[str, Path]()
    for column, values in columns.items():
        parts = {
            entry.masks[of]: value
            for name, value in values.items()
            if (of := f"{MASK}_{name}") in entry.masks
        }
        if len(parts) == len(values) > 1:
            merged[column] = folder / column / f"{entry.image.stem}.png"
            write_png(merged[column], _drawn(parts))
        elif len(parts) == len(values):
            merged[column] = next(iter(parts))
    return replace(entry, merged=merged)


def _drawn(parts: Mapping[Path, int]) -> NDArray[np.uint8]:
    """Returns a mask `(H, W)` of some masks, of which each marks what is above half of its highest value.

    Raises:
        DataError: A mask cannot be read, or has another size than the others.
    """
    masks = {path: read_labels(path).values for path in parts}
    first, *others = masks
    for path in others:
        if masks[path].shape != masks[first].shape:
            raise DataError.at(path, f"has another size than {first}.")
    drawn = np.zeros(masks[first].shape, np.uint8)
    for path, mask in reversed(masks.items()):
        drawn[mask > mask.max() // 2] = parts[path]
    return drawn
