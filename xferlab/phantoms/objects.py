"""Foreign objects laid over the images of an evaluation: what they cost a model is a table's question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xferlab.parallel import for_each
from xferlab.phantoms.device import lay_on
from xferlab.phantoms.fields import generator, to_uint8
from xferlab.phantoms.foreign_objects import DRAWERS

OBJECTS_VERSION = 1
"""Raised when any pixel changes; part of the identity of evaluations with objects."""


def with_objects(
    images: NDArray[np.uint8], digests: Sequence[str], kinds: Sequence[str]
) -> NDArray[np.uint8]:
    """Returns images with foreign objects on them; their targets stay what they are.

    Every object depends on its case and kind alone: it lies at the same place, in shares of the sides, at any
    resolution, beside any other kinds, and whichever cases come along. Kinds are laid on in the order of
    `DRAWERS`, whatever their order here.

    Args:
        images: uint8, `(N, C, H, W)`; C is 1 or 3.
        digests: The case of each image.
        kinds: Keys of `DRAWERS` (`cable`, `electrode`, `marker`, `implant`), each as often as it is named.
            None gives a copy.
    """
    counts = Counter(kinds)
    ordered = [(kind, number) for kind in DRAWERS for number in range(counts[kind])]
    laid = np.empty_like(images)

    def put(row: int) -> None:
        picture = images[row, 0] if images.shape[1] == 1 else images[row].transpose(1, 2, 0)
        for kind, number in ordered:
            rng = generator("device", "foreign", 0, f"{digests[row]}/{kind}/{number}")
            picture = to_uint8(lay_on(picture.astype(np.float32) / np.float32(255), rng, [kind]))
        laid[row] = picture if picture.ndim == 2 else picture.transpose(2, 0, 1)

    for_each(range(len(images)), put)
    return laid
