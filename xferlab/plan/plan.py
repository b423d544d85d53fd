"""What planning gives: the graph of trials, and the machine and code that it was planned for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from xferlab.cohort import Selection
from xferlab.errors import Problem
from xferlab.metrics.claims import Claims
from xferlab.plan.claims import claims_of
from xferlab.plan.labels import ClassCounts
from xferlab.plan.selection import CaseSelector
from xferlab.plan.spec import TrialSpec
from xferlab.study.load import LoadedStudy
from xferlab.tasks.config import Execution, Training

UNKNOWN_DONOR = "unknown until the donor is fetched"


@dataclass(frozen=True)
class Setting:
    """What planning must know of the machine and the code.

    Attributes:
        device: What `device: auto` means here: `cpu` or `cuda`.
        bfloat16: Whether bfloat16 pays on this machine's CPU.
        objects_version: Version of the foreign objects that evaluations lay on images.
        donors: Digest of every file of given weights on this machine, by its name or path. Arms may give one
            stage different weights.
    """

    device: str
    bfloat16: bool
    objects_version: int = 1
    donors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The graph of trials, parents before children.

    Attributes:
        loaded: The study that was asked for.
        setting: Machine and code that it was planned for.
        trials: Every trial once, however many arms use it.
        names: `arm/stage/rNN` -> trial id.
        selections: Every choice of cases that trials refer to, by digest.
        selector: The cases of all sections, with their parts and with what records call them.
        classes: How many images of each section have each class, of the stages that learn labels.
        warnings: What a reader of the results should know.
    """

    loaded: LoadedStudy
    setting: Setting
    trials: tuple[TrialSpec, ...]
    names: Mapping[str, str]
    selections: Mapping[str, Selection]
    selector: CaseSelector = field(repr=False)
    classes: tuple[ClassCounts, ...] = ()
    warnings: tuple[Problem, ...] = ()

    def __repr__(self) -> str:
        arms = ", ".join(self.loaded.arms)
        return f"Plan({self.loaded.base.study!r}: {len(self.trials)} trials; arms {arms})"

    @cached_property
    def claims(self) -> Claims | None:
        """What the study is to show; None where nothing can be compared."""
        return claims_of(self.loaded, self.trials)

    @cached_property
    def by_id(self) -> dict[str, TrialSpec]:
        """Trials by id."""
        return {trial.trial_id: trial for trial in self.trials}

    @cached_property
    def part_sizes(self) -> dict[str, Counter[str]]:
        """Cases by part of every selection to train on, by its digest."""
        trained = {digest for trial in self.trials for digest in trial.trained_selections}
        return {digest: Counter(row[1] for row in self.selections[digest].rows) for digest in trained}

    @cached_property
    def units(self) -> dict[str, str]:
        """What a split keeps whole of every case, by its digest: its patient, or its image."""
        return {case.digest: self.selector.cohort.unit(case) for _, case, _ in self.selector.listed()}

    @cached_property
    def train_patients(self) -> dict[str, frozenset[str]]:
        """Patients of the training part of every selection to train on, by its digest."""
        return train_patients(self.selector, self.trials)

    @cached_property
    def provisional(self) -> frozenset[str]:
        """Ids that will be others once an absent donor is fetched: of all that descends from it."""
        ids: set[str] = set()
        for trial in self.trials:
            absent = any(not donor.sha256 for donor in trial.donors)
            if absent or not ids.isdisjoint(trial.parents):
                ids.add(trial.trial_id)
        return frozenset(ids)


def train_patients(selector: CaseSelector, trials: Iterable[TrialSpec]) -> dict[str, frozenset[str]]:
    """Returns the patients of the training part of every selection to train on, by its digest."""
    patients = {case.digest: case.patient for _, case, _ in selector.listed()}
    trained = {digest for trial in trials for digest in trial.trained_selections}
    return {
        digest: frozenset(patients[row[0]] for row in selector.selections[digest].rows if row[1] == "train")
        for digest in trained
    }


def execution(training: Training, setting: Setting) -> Execution:
    """Returns how a trial computes, with `auto` resolved."""
    device = setting.device if training.device == "auto" else training.device
    automatic = "bfloat16" if device == "cuda" or setting.bfloat16 else "float32"
    precision = automatic if training.precision == "auto" else training.precision
    on_cpu = device == "cpu"
    return Execution(
        device=device,
        precision=precision,
        compile=training.compile,
        validation=precision if training.validation_precision == "same" and precision != "float32" else None,
        threads=training.threads if on_cpu else None,
        deterministic=None if on_cpu else training.deterministic,
        cuda_graph=True if training.cuda_graph and not on_cpu else None,
        float32=None if on_cpu else "ieee",
    )
