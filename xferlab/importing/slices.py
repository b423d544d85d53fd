"""Volumes among the images of a layout, which no study can read."""

from __future__ import annotations

from dataclasses import replace

from xferlab.data.formats import NIFTI
from xferlab.data.nifti import check_slice
from xferlab.errors import DataError, Problem, attempt
from xferlab.importing.found import Entry, Listing
from xferlab.parallel import for_each

KIND = "volumes and files that cannot be read"


def without_volumes(listing: Listing) -> Listing:
    """Returns a listing without images of NIfTI files that are not one slice; reads their headers.

    Raises:
        DataError: No image is left.
    """
    named = [entry for entry in listing.images if entry.image.name.lower().endswith(NIFTI)]
    results = for_each(named, lambda entry: attempt(check_slice, entry.image))
    refused: dict[int, DataError] = {
        id(entry): result
        for entry, result in zip(named, results, strict=True)
        if isinstance(result, DataError)
    }
    images: tuple[Entry, ...] = tuple(entry for entry in listing.images if id(entry) not in refused)
    left_out = [
        Problem(each.where, each.what, "warning", KIND)
        for error in refused.values()
        for each in error.problems
    ]
    if left_out and not images:
        raise DataError.at(left_out[0].where, left_out[0].what)
    return replace(listing, images=images, left_out=(*listing.left_out, *left_out))
