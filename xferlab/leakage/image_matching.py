"""Which pairs of images show one exposure: candidates by local features, which are aligned and compared."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from xferlab.leakage.alignment import agreements
from xferlab.leakage.candidates import Index
from xferlab.leakage.thumbnails import Grey
from xferlab.parallel import for_each

AGREEMENT, DETAIL = 0.8, 0.92
"""What the detail of one exposure correlates by, at least: half of the blocks, and the best quarter of them.

Of 4,771 radiographs and MRI slices, no two of people who are certainly different reach 0.6 and 0.85. Two
exposures that are likely of one person reach 0.82 and 0.91.
"""
NEAR = 0.75
"""The detail of a pair that is worth a look, although it is not one exposure."""

_BLOCK = 16

Item = TypeVar("Item")
"""What stands for an image: its row here, its key or its case elsewhere."""


class Pair(NamedTuple, Generic[Item]):
    """Two images that agree in detail once they are aligned.

    Attributes:
        first: One; the lower row.
        second: The other.
        agreement: What half of the blocks agree by, in [-1, 1]; see `alignment.Agreement`.
        detail: What the best quarter of them agrees by, at least `NEAR`.
    """

    first: Item
    second: Item
    agreement: float
    detail: float

    @property
    def one_exposure(self) -> bool:
        """Whether both images show one exposure."""
        return self.agreement >= AGREEMENT and self.detail >= DETAIL


def find_pairs(
    images: Sequence[Grey], groups: NDArray[np.integer], fresh: NDArray[np.bool_]
) -> list[Pair[int]]:
    """Returns the pairs that agree in detail, by rows.

    Args:
        images: Thumbnails, none of them black.
        groups: Number of each row's patient; rows of one patient are not compared.
        fresh: Rows to compare with all; two rows that are not fresh were compared before.
    """
    ways = [
        candidate
        for square in (True, False)
        for candidate in Index(images, groups, fresh, square=square).candidates()
    ]
    ways.sort(key=lambda candidate: candidate.votes)
    best = {(min(candidate[:2]), max(candidate[:2])): candidate for candidate in ways}
    candidates = [best[pair] for pair in sorted(best)]
    blocks = [candidates[start : start + _BLOCK] for start in range(0, len(candidates), _BLOCK)]
    found = [one for block in for_each(blocks, partial(agreements, images)) for one in block]
    return [
        Pair(min(candidate[:2]), max(candidate[:2]), *agreement)
        for candidate, agreement in zip(candidates, found, strict=True)
        if agreement.quarter >= NEAR
    ]
