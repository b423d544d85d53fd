"""PNG files that an import has to write, because a study cannot read what is there; sizes of pictures."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xferlab.data.decode import FORMATS
from xferlab.errors import StorageError
from xferlab.records.store import Store

MARKED = 255
"""The value of a structure in a mask that an import writes."""


def size_of(path: Path) -> tuple[int, int] | None:
    """Returns width and height of a PNG, JPEG, TIFF or the like; None if it cannot be read."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.size
    except (OSError, Image.DecompressionBombError):  # `xferlab check` says what is wrong with it
        return None


def write_mask(path: Path, marked: NDArray[np.bool_]) -> None:
    """Writes a mask as a PNG of 0 and 255.

    Raises:
        StorageError: It cannot be written.
    """
    write_png(path, np.where(marked, MARKED, 0).astype(np.uint8))


def write_png(path: Path, pixels: NDArray[np.integer[Any]]) -> None:
    """Writes a grey PNG of 8 or 16 bits; leaves a file alone that holds the same bytes already.

    Raises:
        StorageError: It cannot be written.
    """
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    data = file.getvalue()
    try:
        if path.is_file() and path.read_bytes() == data:
            return
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}") from error
    Store.open(str(path.parent)).write(path.name, data)
