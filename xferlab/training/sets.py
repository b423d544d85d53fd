"""Several sets of cases that one training learns from, as one sequence of rows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from xferlab.training.batches import Rows
from xferlab.training.examples import AnyExamples


class CaseSets:
    """Sets of cases by name; the rows of each follow those of the set before it.

    Attributes:
        sets: The sets, in order: images of a set whose masks are read in part are one set, and those with
            masks another, `NAME.labelled`.
    """

    def __init__(self, sets: Mapping[str, AnyExamples]):
        """Takes the sets."""
        self.sets = dict(sets)
        ends = np.cumsum([0, *map(len, self.sets.values())]).tolist()
        self._ranges = dict(zip(self.sets, pairwise(ends), strict=True))

    def __len__(self) -> int:
        """Number of rows of all sets; a case of two sets has two."""
        return sum(map(len, self.sets.values()))

    @cached_property
    def keys(self) -> npt.NDArray[np.uint64]:
        """64 bits of the digest of each case, in the order of the rows."""
        return np.concatenate([examples.keys for examples in self.sets.values()])

    @property
    def predicted(self) -> AnyExamples:
        """The set that a learner of several is to predict: the second."""
        return list(self.sets.values())[1]

    def rows(self, name: str, own: Rows) -> Rows:
        """Returns the rows here of cases of one set, given their rows there."""
        moved: Rows = own + self._ranges[name][0]
        return moved

    def divided(self, rows: Rows) -> dict[str, Rows]:
        """Returns the rows of each set among some rows here, as rows there and in their order."""
        return {
            name: rows[(rows >= start) & (rows < end)] - start for name, (start, end) in self._ranges.items()
        }


FitExamples = AnyExamples | CaseSets
"""What a learner trains and selects with."""


def predicted_of(examples: FitExamples) -> AnyExamples:
    """Returns the cases that a learner is to predict: those of one set, which may be all."""
    return examples.predicted if isinstance(examples, CaseSets) else examples
