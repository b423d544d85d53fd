"""Small grey copies of known cases, kept beside the digests, so that comparing images decodes them once."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xferlab.cohort import Case
from xferlab.data.memo import write_whole
from xferlab.data.sources.source import Source
from xferlab.errors import DataError, FileUnavailableError
from xferlab.leakage.image_matching import SIDE_PX
from xferlab.parallel import Progress, for_each

_TORN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)

Thumbnail = NDArray[np.uint8]


def thumbnails(
    folder: Path, cases: Mapping[str, tuple[Source, Case]], progress: Progress | None = None
) -> tuple[dict[str, Thumbnail], dict[str, DataError]]:
    """Returns the thumbnails of cases, and why others have none: their image or mask cannot be used.

    A thumbnail is `(64, 64)` uint8: the area averages of the image's first channel. Each is a file that is
    written once, whole. Cases without one are decoded again each time, since another version of a package may
    read them.

    Args:
        folder: Where they are kept.
        cases: Case digest -> where it is decoded.
        progress: Called while new images are decoded.
    """
    digests = list(cases)
    results = dict(zip(digests, for_each(digests, partial(_stored, folder)), strict=True))
    new = [digest for digest, thumbnail in results.items() if thumbnail is None]
    drawn = for_each(new, lambda digest: _drawn(folder, *cases[digest]), progress=progress)
    results |= dict(zip(new, drawn, strict=True))
    failures = {digest: result for digest, result in results.items() if isinstance(result, DataError)}
    return {digest: result for digest, result in results.items() if isinstance(result, np.ndarray)}, failures


def _stored(folder: Path, digest: str) -> Thumbnail | DataError | None:
    with suppress(*_TORN), open(_path(folder, digest), "rb") as opened, np.load(opened) as file:
        pixels: Thumbnail = file["pixels"]
        return pixels
    return None


def _drawn(folder: Path, source: Source, case: Case) -> Thumbnail | DataError:
    try:
        image = source.decode(case).image
    except FileUnavailableError:
        raise  # another day it can be read: the splits must not depend on the day
    except DataError as error:
        return error
    grey = Image.fromarray(np.ascontiguousarray(image if image.ndim == 2 else image[..., 0]))
    pixels = np.asarray(grey.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX))
    with suppress(OSError):  # a folder that cannot be written costs time later, no more
        write_whole(_path(folder, case.digest), lambda file: np.savez(file, pixels=pixels))
    return pixels


def _path(folder: Path, digest: str) -> Path:
    return folder / f"{digest}.npz"
