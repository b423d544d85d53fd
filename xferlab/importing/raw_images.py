"""Images that are pixels without a header, written as PNG files once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xferlab.data.decode import content_of
from xferlab.errors import DataError
from xferlab.importing.pictures import write_png
from xferlab.importing.published import RawImages
from xferlab.parallel import for_each


def converted(images: Sequence[Path], folder: Path, raw: RawImages) -> Mapping[Path, Path]:
    """Returns the PNG file of each image: 16 bits, bone bright; writes those that are not there.

    Args:
        images: The raw files; their names differ.
        folder: Where the PNG files go.
        raw: How the pixels are stored.

    Raises:
        DataError: A file cannot be read, or is no such image.
        StorageError: A file cannot be written.
    """
    targets = {path: folder / f"{path.stem}.png" for path in images}

    def convert(path: Path) -> None:
        write_png(targets[path], pixels_of(path, raw))

    for_each([path for path in images if not targets[path].exists()], convert)
    return targets


def pixels_of(path: Path, raw: RawImages) -> NDArray[np.uint16]:
    """Returns the pixels of a raw image, `(H, W)`: the means of blocks of `shrink` by `shrink`, rounded.

    Raises:
        DataError: The file cannot be read, has another size, or values of more bits.
    """
    data = content_of(path)
    side, dtype = raw.side_px, np.dtype(raw.dtype)
    if len(data) != side * side * dtype.itemsize:
        raise DataError.at(
            path,
            f"has {len(data):,} bytes; {side}x{side} pixels of {dtype.itemsize} bytes without a header have "
            f"{side * side * dtype.itemsize:,}.",
        )
    values, highest = np.frombuffer(data, dtype).reshape(side, side), 2**raw.bits - 1
    if values.max() > highest:
        raise DataError.at(path, f"has the value {values.max()}; pixels of {raw.bits} bits end at {highest}.")
    blocks = values.reshape(side // raw.shrink, raw.shrink, side // raw.shrink, raw.shrink)
    means = np.rint(blocks.mean(axis=(1, 3)))
    return np.asarray(highest - means if raw.inverted else means, np.uint16)
