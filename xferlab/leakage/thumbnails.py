"""Small grey copies of known cases, kept beside the digests, so that comparing images decodes them once."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
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

_AT_ONCE = 8192
_TORN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)

Thumbnail = NDArray[np.uint8]


class Thumbnails:
    """The thumbnails of a cache: files that are written once, whole, and only ever read or deleted.

    Two processes may write the same ones; a torn file is as good as none.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def of(
        self, cases: Mapping[str, tuple[Source, Case]], progress: Progress | None = None
    ) -> tuple[dict[str, Thumbnail], dict[str, DataError]]:
        """Returns the thumbnails of cases, and why others have none: their image or mask cannot be used.

        A thumbnail is `(64, 64)` uint8: the area averages of the image's first channel. Cases without one are
        decoded again each time, since another version of a package may read them.

        Args:
            cases: Case digest -> where it is decoded.
            progress: Told (done, all) while new images are decoded.
        """
        found = self._stored(cases)
        failures: dict[str, DataError] = {}
        new = [digest for digest in cases if digest not in found]
        for start in range(0, len(new), _AT_ONCE):  # so that an interrupted one goes on where it was
            digests = new[start : start + _AT_ONCE]

            def told(done: int, _: int, before: int = start) -> None:
                if progress is not None:
                    progress(before + done, len(new))

            drawn = for_each(digests, lambda digest: _drawn(*cases[digest]), progress=told)
            fresh = {}
            for digest, result in zip(digests, drawn, strict=True):
                if isinstance(result, DataError):
                    failures[digest] = result
                else:
                    fresh[digest] = result
            if fresh:
                self._store(fresh)
                found |= fresh
        return found, failures

    def _stored(self, wanted: Mapping[str, object]) -> dict[str, Thumbnail]:
        found: dict[str, Thumbnail] = {}
        for path in sorted(self._folder.glob("*.npz")):
            with suppress(*_TORN), open(path, "rb") as opened, np.load(opened) as file:
                digests = file["digests"].tolist()
                rows = [row for row, digest in enumerate(digests) if digest in wanted]
                if rows:
                    pixels = file["pixels"]
                    found |= {digests[row]: pixels[row] for row in rows}
        return found

    def _store(self, thumbnails: Mapping[str, Thumbnail]) -> None:
        digests = np.array(sorted(thumbnails))
        pixels = np.stack([thumbnails[digest] for digest in digests.tolist()])
        name = f"{digest_of(digests.tolist())}.npz"
        with suppress(OSError):  # a folder that cannot be written costs time later, no more
            write_whole(self._folder / name, lambda file: np.savez(file, digests=digests, pixels=pixels))


def digest_of(texts: Sequence[str]) -> str:
    """Returns a name for a sequence of texts."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:24]


def _drawn(source: Source, case: Case) -> Thumbnail | DataError:
    try:
        image = source.decode(case).image
    except FileUnavailableError:
        raise  # another day it can be read: the splits must not depend on the day
    except DataError as error:
        return error
    grey = Image.fromarray(np.ascontiguousarray(image if image.ndim == 2 else image[..., 0]))
    return np.asarray(grey.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX))
