"""What the repetitions of a stage tell of the classes of cases: what curves and confusion matrices show.

A task that tells classes stores them as `metrics.classes` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xferlab.analysis.contents import Contents
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.sets import by_name
from xferlab.metrics.sets import Floats


class Confusion(NamedTuple):
    """How often cases of each true class are called what, a matrix for each repetition.

    Attributes:
        of: The class that is told from the rest; empty where all exclude each other.
        true: Names of the lines.
        called: Names of the columns.
        counts: Shape (J, lines, columns).
    """

    of: str
    true: tuple[str, ...]
    called: tuple[str, ...]
    counts: Floats

    @property
    def shares(self) -> Floats:
        """The counts as shares of their lines; NaN where a line has no case."""
        whole = self.counts.sum(axis=2, keepdims=True)
        return np.where(whole > 0, self.counts / np.where(whole > 0, whole, 1), np.nan)

    def shares_of(self, line: int) -> tuple[Floats, Floats, int]:
        """Returns mean and sample SD of a line's shares, (columns,) each, and of how many repetitions.

        They are those in which the line has cases; a class that one of them lacks takes nothing from others.
        """
        return mean_and_sd(self.shares[:, line])


@dataclass(frozen=True, eq=False)
class Told:
    """What arms that share their results tell on an evaluation set.

    Attributes:
        arms: Their names.
        classes: Names of the classes.
        values: Values of the cases by name, (J, N); NaN where a repetition lacks a case.
        num_planned: Planned repetitions.
        num_patients: Patients of all repetitions.
    """

    arms: tuple[str, ...]
    classes: tuple[str, ...]
    values: Mapping[str, Floats]
    num_planned: int
    num_patients: int

    @property
    def num_repetitions(self) -> int:
        """How many repetitions there are."""
        return len(self.values[f"IS_{self.classes[0]}"])

    @property
    def num_images(self) -> int:
        """Images of all repetitions."""
        return int(self.values[f"IS_{self.classes[0]}"].shape[1])

    def by_repetition(self, *names: str) -> Iterator[tuple[Floats, ...]]:
        """Yields some values of the cases of each repetition in which all of them are defined."""
        for lines in zip(*(self.values[name] for name in names), strict=True):
            defined = ~np.isnan(lines).any(axis=0)
            yield tuple(line[defined] for line in lines)

    def confusions(self) -> tuple[Confusion, ...]:
        """Returns one matrix where classes exclude each other, else one for each class."""
        if not np.isnan(self.values["LABEL"]).all():  # each case is of one class
            return (self._confusion("", self.classes, self.classes, ("LABEL", "CALLED")),)
        return tuple(
            self._confusion(name, (f"not {name}", name), ("no", "yes"), (f"IS_{name}", f"CALLED_{name}"))
            for name in self.classes
        )

    def _confusion(
        self, of: str, true: tuple[str, ...], called: tuple[str, ...], names: Sequence[str]
    ) -> Confusion:
        counts = np.zeros((self.num_repetitions, len(true), len(called)))
        for matrix, (truth, given) in zip(counts, self.by_repetition(*names), strict=True):
            np.add.at(matrix, (truth.astype(np.intp), given.astype(np.intp)), 1)
        return Confusion(of, true, called, counts)


def told(contents: Contents, evaluated: EvaluationSet) -> list[Told]:
    """Returns what arms tell on a set, those that share it as one; nothing of stages without classes."""
    results, rows, found = contents.results, evaluated.rows(contents.cases), list[Told]()
    for arms in results.arms_by_evaluations(evaluated):
        of_arm = rows[rows["arm"] == arms[0]]
        classes, names = results.several(arms[0], evaluated.stage), set(of_arm["metric"].unique())
        wanted = {f"{kind}_{name}" for kind in ("IS", "P", "CALLED") for name in classes}
        if classes and names >= wanted:
            of_classes = of_arm[of_arm["metric"].isin(wanted | {"LABEL", "CALLED"})]
            planned = len(results.evaluation_ids(arms[0], evaluated))
            num_patients = of_arm["patient"].nunique()
            found.append(Told(arms, classes, by_name(of_classes)[1], planned, num_patients))
    return found


def counted(shown: Told) -> str:
    """Returns `n of m repetitions, images (patients)` of a figure or table."""
    return (
        f"{', '.join(shown.arms)}: {shown.num_repetitions} of {shown.num_planned} repetitions, "
        f"{shown.num_images} images of {shown.num_patients} patients"
    )


def mean_and_sd(values: Floats) -> tuple[Floats, Floats, int]:
    """Returns mean and sample SD over the repetitions in which all is defined, and how many these are."""
    defined = values[~np.isnan(values.reshape(len(values), -1)).any(axis=1)]
    absent = np.full(values.shape[1:], np.nan)
    mean = defined.mean(axis=0) if len(defined) else absent
    return mean, defined.std(axis=0, ddof=1) if len(defined) > 1 else absent, len(defined)
