"""Which pairs of images show one exposure: candidates by local features, which are aligned and compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from itertools import chain, product
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from xferlab.leakage.alignment import agreements
from xferlab.leakage.candidates import MIN_VOTES, Index, best_ways, stretched
from xferlab.leakage.features import features
from xferlab.leakage.thumbnails import Grey
from xferlab.parallel import for_each

AGREEMENT, DETAIL = 0.8, 0.92
"""What the detail of one exposure correlates by, at least: half of the blocks, and the best quarter of them.

Of 4,771 radiographs and MRI slices, people who are certainly different reach 0.58 and 0.85, and two exposures
that are likely of one person 0.82 and 0.91. The settings here were compared on these images.
"""
NEAR = 0.75
"""The detail of a pair that is worth a look, although it is not one exposure."""

_BLOCK = 16
_WITNESSES = 64
"""Of so many equal images each is paired with all others; pairs with these join those beyond."""

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
    """Returns the pairs that agree in detail, by rows. Of a crowd of equal images it returns some.

    Args:
        images: Thumbnails, none of them black.
        groups: Number of each row's patient; rows of one patient are not compared.
        fresh: Rows to compare with all; two rows that are not fresh were compared before.
    """
    copies = _equal(images)
    # Images of several patients are compared with those of each of them.
    whose = [groups[rows[0]] if len({*groups[rows]}) == 1 else -1 - n for n, rows in enumerate(copies)]
    new = np.array([fresh[rows].any() for rows in copies])
    with threadpool_limits(1, "blas"):  # one of our own threads works on each core
        found = _similar([images[rows[0]] for rows in copies], np.array(whose), new)
    found += [
        Pair(number, number, 1.0, 1.0)
        for number, rows in enumerate(copies)
        if len(rows) > 1 and _shows_enough(images[rows[0]])
    ]
    pairs = {
        (min(one, other), max(one, other)): figures
        for first, second, *figures in found
        for one, other in product(copies[first][:_WITNESSES], copies[second])
        if groups[one] != groups[other] and (fresh[one] or fresh[other])
    }
    return [Pair(int(first), int(second), *pairs[first, second]) for first, second in sorted(pairs)]


def _equal(images: Sequence[Grey]) -> list[NDArray[np.intp]]:
    """The rows of each thumbnail."""
    rows = defaultdict(list)
    for row, image in enumerate(images):
        rows[image.shape, image.tobytes()].append(row)
    return [np.array(each) for each in rows.values()]


def _shows_enough(image: Grey) -> bool:
    """Whether equal images are one exposure: the ranks of all gradual changes of grey are equal."""
    return len(features(image, image.shape).x) >= MIN_VOTES


def _similar(
    images: Sequence[Grey], groups: NDArray[np.integer], fresh: NDArray[np.bool_]
) -> list[Pair[int]]:
    """The pairs of images, no two of which are equal, that agree in detail."""
    candidates = Index(images, groups, fresh).candidates()
    if len(rows := stretched(images)):
        square = Index([images[row] for row in rows], groups[rows], fresh[rows], square=True)
        candidates += [
            way._replace(moving=int(rows[way.moving]), still=int(rows[way.still]))
            for way in square.candidates()
        ]
    candidates = best_ways(candidates)
    blocks = [candidates[start : start + _BLOCK] for start in range(0, len(candidates), _BLOCK)]
    agreed = chain.from_iterable(for_each(blocks, partial(agreements, images)))
    return [
        Pair(min(candidate[:2]), max(candidate[:2]), *agreement)
        for candidate, agreement in zip(candidates, agreed, strict=True)
        if agreement.quarter >= NEAR
    ]
