"""Volumes among the images of a layout, which no study can read."""

from __future__ import annotations

from dataclasses import replace

from xferlab.data.formats import NIFTI
from xferlab.data.nifti import check_slice
from xferlab.errors import DataError, attempt
from xferlab.importing.found import Entry, Listing, parted
from xferlab.parallel import for_each

KIND = "volumes and files that cannot be read"


def without_volumes(listing: Listing) -> Listing:
    """Returns a listing without images of NIfTI files that are not one slice; reads their headers.

    Raises:
        DataError: No image is left.
    """
    images, left_out = parted(for_each(listing.images, lambda entry: attempt(_checked, entry)), KIND)
    if left_out and not images:
        raise DataError.at(left_out[0].where, left_out[0].what)
    return replace(listing, images=tuple(images), left_out=(*listing.left_out, *left_out))


def _checked(entry: Entry) -> Entry:
    if entry.image.name.lower().endswith(NIFTI):
        check_slice(entry.image)
    return entry
