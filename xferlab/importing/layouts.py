"""The published layouts that an import knows, and which of them a folder or file has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from xferlab.errors import UsageError, suggest
from xferlab.importing.coco import is_coco, read_coco
from xferlab.importing.collection import is_collection, read_collection
from xferlab.importing.datalist import is_datalist, read_datalist
from xferlab.importing.dicom_masks import has_objects, read_objects
from xferlab.importing.found import Listing
from xferlab.importing.nnunet import is_nnunet, read_nnunet
from xferlab.importing.public_sets import has_marks, read_public
from xferlab.importing.published import SETS

NONE = "none"
"""In place of a layout: images and masks are joined by their names."""


@dataclass(frozen=True)
class Layout:
    """A way in which others lay out images and masks.

    Attributes:
        name: As the command line has it.
        title: What a message calls it.
        fits: Whether a folder or file has it.
        read: Reads it; raises DataError.
    """

    name: str
    title: str
    fits: Callable[[Path], bool]
    read: Callable[[Path], Listing]


LAYOUTS = (
    Layout("datalist", "a list of images and labels, as MONAI has", is_datalist, read_datalist),
    Layout("coco", "a file of COCO", is_coco, read_coco),
    Layout("nnunet", "a data set of nnU-Net", is_nnunet, read_nnunet),
    *(
        Layout(
            public.name, public.title, partial(has_marks, public=public), partial(read_public, public=public)
        )
        for public in SETS
    ),
    Layout("cohen", "Cohen's collection of X-rays", is_collection, read_collection),
    Layout("dicom-seg", "DICOM images with DICOM-SEG objects", has_objects, read_objects),
)
"""In the order in which they are tried."""


def layout_of(path: Path, name: str | None) -> Layout | None:
    """Returns the layout of a folder or file: the named one, else the first that fits; None for `none`.

    Raises:
        UsageError: There is no such layout, or none is named for a folder of several public sets.
    """
    if name is None:
        layout = next((layout for layout in LAYOUTS if layout.fits(path)), None)
        if layout and layout.name in {public.name for public in SETS}:
            _refuse_several(path)
        return layout
    named = {layout.name: layout for layout in LAYOUTS}
    if name not in (*named, NONE):
        accepted = (*named, NONE)
        raise UsageError(f"--layout {name}: accepted are {', '.join(accepted)}.{suggest(name, accepted)}")
    return named.get(name)


def _refuse_several(path: Path) -> None:
    """Refuses a folder that holds several public sets: only one of them would be read."""
    sets = [public for public in SETS if has_marks(path, public)]
    if len(sets) > 1:
        titles = ", ".join(public.title for public in sets)
        names = " or ".join(f"--layout {public.name}" for public in sets)
        raise UsageError(
            f"{path} has the folders of several sets: {titles}. Name the folder of one, or add {names}"
        )
