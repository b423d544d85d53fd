"""Foreign objects laid over the images of an evaluation: what they cost a model is a table's question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xferlab.errors import DataError, Problem, UsageError, suggest
from xferlab.parallel import for_each
from xferlab.phantoms.device import FOREIGN_OBJECTS, add_foreign_objects

OBJECTS_VERSION = 1
"""Raised when any pixel changes; part of the identity of evaluations with objects."""

_SEED = 0


def with_objects(
    images: NDArray[np.uint8], digests: Sequence[str], kinds: Sequence[str]
) -> NDArray[np.uint8]:
    """Returns images with foreign objects on them; their targets stay what they are.

    Every object depends on its case and kind alone: it lies at the same place, in shares of the sides, at any
    resolution, beside any other kinds, and whichever cases come along. Kinds are laid on in the order of
    `FOREIGN_OBJECTS`, whatever their order here.

    Args:
        images: `(N, C, H, W)`; C is 1 or 3.
        digests: The case of each image.
        kinds: Any of `cable`, `electrode`, `marker`, `implant`, each as often as it is named. None gives a
            copy.

    Raises:
        UsageError: A kind is unknown.
        DataError: The images are not uint8 `(N, 1 or 3, H, W)`, or not as many as the digests.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        _refuse(f"images {images.dtype} {images.shape}; accepted: uint8 (N, C, H, W) with 1 or 3 channels")
    if len(images) != len(digests):
        _refuse(f"{len(images)} images and {len(digests)} digests; accepted: one digest for each image")
    counts = Counter(kinds)
    for kind in counts.keys() - set(FOREIGN_OBJECTS):
        raise UsageError(
            f"with_objects: kind {kind!r} is unknown; accepted: {', '.join(FOREIGN_OBJECTS)}."
            f"{suggest(kind, FOREIGN_OBJECTS)}"
        )
    ordered = [(kind, number) for kind in FOREIGN_OBJECTS for number in range(counts[kind])]
    laid = np.empty_like(images)

    def put(row: int) -> None:
        film = images[row, 0] if images.shape[1] == 1 else images[row].transpose(1, 2, 0)
        for kind, number in ordered:
            key = f"{digests[row]}/{kind}/{number}"
            film = add_foreign_objects(film, seed=_SEED, key=key, kinds=[kind])
        laid[row] = film if film.ndim == 2 else film.transpose(2, 0, 1)

    for_each(range(len(images)), put)
    return laid


def _refuse(found: str) -> None:
    raise DataError(Problem("with_objects", f"found {found}."))
