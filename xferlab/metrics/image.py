"""One image to score: output, target, and what several metrics share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

Box = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class ScoredImage:
    """The arrays that metrics are functions of.

    An ignored pixel counts nowhere: it is in none of the flat vectors, and it is background in both masks. So
    an ignored region cuts boundaries and components of prediction and target alike.

    Attributes:
        probability: float32 `(P,)` in [0, 1], outputs of the counted pixels.
        label: bool `(P,)`, target of the counted pixels.
        prediction: bool `(H, W)`, probability > threshold and not ignored.
        target: bool `(H, W)`, target and not ignored.
        spacing_mm: Distance of neighbouring rows and of neighbouring columns in millimetres; None if unknown.
    """

    probability: NDArray[np.float32]
    label: NDArray[np.bool_]
    prediction: NDArray[np.bool_]
    target: NDArray[np.bool_]
    spacing_mm: tuple[float, float] | None = None
    _shared: dict[Callable[[ScoredImage], Any], Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, compute: Callable[[ScoredImage], T]) -> T:
        """Returns `compute(self)`, computed once for this image: how metrics share an intermediate."""
        if compute not in self._shared:
            self._shared[compute] = compute(self)
        return cast(T, self._shared[compute])


def box_of(prediction: NDArray[np.bool_], target: NDArray[np.bool_]) -> Box:
    """Returns the rows and columns that hold all pixels of two masks `(H, W)`: none if both are empty."""
    either = prediction | target
    rows, columns = (np.flatnonzero(either.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return slice(0), slice(0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
