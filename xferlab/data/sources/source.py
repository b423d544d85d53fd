"""The contract of a data source: which cases there are, and the pixels of one of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from xferlab.cohort import Case
from xferlab.errors import DataError, Problem

STRUCTURE, IGNORED = 255, 127
"""Values of a target; 0 is background. Ignored pixels count in neither loss nor metrics."""


@dataclass(frozen=True)
class Decoded:
    """The pixels of one case at the size of its source.

    Attributes:
        image: uint8, `(H, W)` or `(H, W, C)`.
        target: uint8, `(H, W)`: 0 background, 255 structure, 127 ignored.
        spacing_mm: Distance between rows and between columns, if the file tells it.
        remarks: What somebody should look at, though it can be used; `check` lists them.
        values: Values of the mask file that the section's labels name.
    """

    image: NDArray[np.uint8]
    target: NDArray[np.uint8]
    spacing_mm: tuple[float, float] | None = None
    remarks: tuple[str, ...] = ()
    values: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Survey:
    """What a source holds, found without decoding images.

    Attributes:
        cases: Usable cases, after `where` and `same_patient`, by patient and name; no digest stands twice.
        problems: All findings, errors and warnings.
        doubled: Cases left out since image and mask stand in `cases` already, maybe under another patient.
    """

    cases: tuple[Case, ...]
    problems: tuple[Problem, ...] = ()
    doubled: tuple[Case, ...] = ()


class Source(ABC):
    """One data section. `decode` may be called from several threads at once.

    Attributes:
        channels: Channels of every image; 1 for `(H, W)`.
        empty_targets: Whether cases without the structure belong to the set, as slices without a lesion do.
    """

    channels: int = 1
    empty_targets: bool = False

    @abstractmethod
    def look(self) -> Survey:
        """Returns the cases and all findings; reads tables and file bytes, decodes no image."""

    @abstractmethod
    def decode(self, case: Case) -> Decoded:
        """Returns the pixels of a case of this source.

        Raises:
            DataError: If a file cannot be read, or image and mask do not fit; with all problems of the case.
        """

    @cached_property
    def survey(self) -> Survey:
        """What `look` found the first time."""
        return self.look()

    def cases(self) -> tuple[Case, ...]:
        """Returns the cases, by patient and name.

        Raises:
            DataError: With all problems, if one of them is an error.
        """
        errors = [problem for problem in self.survey.problems if problem.severity == "error"]
        if errors:
            raise DataError(errors)
        return self.survey.cases
