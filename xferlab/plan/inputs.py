"""What the trials of an arm take from other trials: weights to start from, and predictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from xferlab.cohort import Selection
from xferlab.plan.growing import Growing
from xferlab.plan.selection import CaseSelector, Reading
from xferlab.plan.spec import GATE, MASKS, WEIGHTS, Donor, Input, Predicted
from xferlab.plan.template import Template
from xferlab.study.roles import untold
from xferlab.study.schema import Study
from xferlab.study.sections import paths_of
from xferlab.study.stage import Producer
from xferlab.tasks.task import Finding

if TYPE_CHECKING:
    from xferlab.plan.arm import ArmExpansion


@dataclass(frozen=True)
class Giving:
    """Who predicts for a trial in one role.

    Attributes:
        given: The trials, and what is taken of them.
        paired: The trial that predicts all units but those below.
        folds: The trials that predict units out of fold.
        added: What it adds to the identity of who takes it, beside its trials and the places.
        set_of: Returns as which set of its task it predicts the cases of a section; see `TrialSpec.set_of`.
    """

    given: Input
    paired: str
    folds: Mapping[str, str]
    added: Mapping[str, Any]
    set_of: Callable[[str], str]

    def cases(
        self, units: Mapping[str, str], section_of: Callable[[str], str]
    ) -> dict[tuple[str, str], list[str]]:
        """Returns the digests of the cases that each trial predicts as one set of its task.

        Args:
            units: The unit of each case.
            section_of: Returns the data section of a case.
        """
        cases: dict[tuple[str, str], list[str]] = defaultdict(list)
        for digest, unit in units.items():
            name = self.set_of(section_of(digest))
            cases[self.folds.get(unit, self.paired), name].append(digest)
        return {key: cases[key] for key in sorted(cases)}


@dataclass(frozen=True)
class Taken:
    """What a trial takes from others.

    Attributes:
        origins: What it starts from.
        givings: Who predicts for it.
        selector: Gets the cases to predict.
    """

    origins: tuple[Input, ...]
    givings: tuple[Giving, ...]
    selector: CaseSelector

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """All of it, by role."""
        return (*self.origins, *(giving.given for giving in self.givings))

    def predicted(self, reading: Reading, units: Mapping[str, str]) -> tuple[Predicted, ...]:
        """Returns who predicts which of some cases of a section or set, given their units by digest."""
        predicted = []
        for giving in self.givings:
            cases = giving.cases(units, self.selector.sections_of(reading).__getitem__)
            for (trial, set_name), digests in cases.items():
                selection = Selection.to_predict(reading.name, digests)
                self.selector.selections[selection.identity()] = selection
                predicted.append(Predicted(giving.given.role, trial, selection.identity(), set_name))
        return tuple(predicted)


class Inputs:
    """What each trial of an arm takes."""

    def __init__(
        self, growing: Growing, arm: str, study: Study, *, arms: Mapping[str, ArmExpansion], own: ArmExpansion
    ):
        """Takes the arm with its study, all arms, and itself among them."""
        self._growing, self._arm, self._study = growing, arm, study
        self._arms, self._own = arms, own

    def of(self, template: Template, repetition: int, units: Collection[str]) -> Taken | None:
        """Returns what a trial takes; None where one that it takes from has no trial.

        Args:
            template: What it has in common with the others of its stage.
            repetition: Of the trial, and of those who predict.
            units: All that it is trained or measured on.
        """
        origins = self._origins(template, repetition)
        givings = self._givings(template, repetition, units)
        if origins is None or givings is None:
            return None
        return Taken(origins, givings, self._growing.selector)

    def _origins(self, template: Template, repetition: int) -> tuple[Input, ...] | None:
        inputs, origins = [], template.stage.origins
        for network, parent in sorted(origins.items()):  # as arms that share a trial may differ
            role = f"{WEIGHTS}.{network}" if network else WEIGHTS
            given = self._weights(template.spec.stage, parent, repetition, role)
            if given is None:
                return None
            inputs.append(given)
        return tuple(inputs)

    def _weights(self, stage_name: str, parent_name: str, repetition: int, role: str) -> Input | None:
        parent = self._study.stages[parent_name]
        if parent.weights is not None:
            name, path = parent.weights.name, parent.weights.path
            digest = self._growing.setting.donors.get(name or path or "") or parent.weights.sha256
            return Input(role, donor=Donor(parent_name, name, path, digest))
        number = parent.repetitions or 1
        if self._study.stages[stage_name].chaining == "paired":
            trial = self._own.trial(parent_name, repetition if number > 1 else 1)
            return Input(role, (trial,)) if trial else None
        trials = (self._own.trial(parent_name, each) for each in range(1, number + 1))
        available = tuple(sorted(trial for trial in trials if trial))
        if not available:
            return None
        if len(available) > 1 and self._growing.trials[available[0]].identity.score is None:
            what = (
                f"stage {stage_name!r} starts from the best repetition of {parent_name!r}, which has no "
                "score to tell it by; say `chaining: paired`"
            )
            finding = Finding(("stages", stage_name, "chaining"), what)
            self._growing.refuse(f"no best {parent_name}", self._arm, finding)
        self._growing.warn(
            f"best {parent_name}",
            f"stages.{parent_name}",
            f"the best of {len(available)} repetitions feeds all trials that start from it; "
            "another number of repetitions renews those trials and their descendants",
            kind="stages that start from the best",
            arm=self._arm,
        )
        return Input(role, available)

    def _givings(
        self, template: Template, repetition: int, units: Collection[str]
    ) -> tuple[Giving, ...] | None:
        givings, stage_name = [], template.spec.stage
        for producer in template.producers:
            arm = self._arms[producer.arm] if producer.arm else self._own
            trial = arm.trial(producer.stage, repetition)
            if trial is None:
                return None
            masks = self._study.masks_of(stage_name)
            number = masks.num_folds if masks and producer.role == MASKS else 0
            folds = arm.out_of_fold(producer.stage, repetition, number, units) if number else {}
            if folds:
                self._check_folds(stage_name, producer, number)
            trials = (trial, *sorted(set(folds.values())))
            given = self._taken(stage_name, producer, trials)
            set_of = self._growing.trials[trial].set_of
            givings.append(Giving(given, trial, folds, self._added(template, given), set_of))
        return tuple(givings)

    def _added(self, template: Template, given: Input) -> dict[str, Any]:
        if given.role == MASKS:
            return {"threshold": given.threshold, **template.of_masks}
        by = self._growing.trials[given.trials[0]].identity.calls_by
        return {"by": by} if by else {}

    def _check_folds(self, stage_name: str, producer: Producer, number: int) -> None:
        """Notes that two stages ask for different folds of one."""
        asks = f"stage {stage_name!r} of arm {self._arm!r}"
        key = producer.arm or self._arm, producer.stage
        known, first = self._growing.folds.setdefault(key, (number, asks))
        if known != number:
            what = (
                f"{asks} asks for masks of {producer.stage!r} out of {number} folds, and {first} out of "
                f"{known}; give both the same number (`out_of_fold`)"
            )
            finding = Finding(("stages", stage_name, MASKS, "out_of_fold"), what)
            self._growing.refuse(f"folds {'.'.join(key)}", self._arm, finding)

    def _taken(self, stage_name: str, producer: Producer, trials: tuple[str, ...]) -> Input:
        """What is taken of the trials that predict, by name and place."""
        paired = self._growing.trials[trials[0]]
        targets, threshold = paired.targets, None
        masks, gate = self._study.masks_of(stage_name), self._study.stages[stage_name].gate
        if producer.role == GATE:
            assert gate is not None
            order = {name: place for place, name in enumerate(targets)}
            wanted = sorted(gate.classes, key=lambda name: order.get(name, -1))
        else:
            assert masks is not None
            wanted = list(masks.structures or targets)
            threshold = masks.threshold if paired.identity.has_threshold else None
        for finding in untold(stage_name, producer, wanted, targets):
            related = (*finding.related, *paths_of(paired.section))
            self._growing.refuse(finding.what, self._arm, replace(finding, related=related))
        names = tuple(name for name in wanted if name in targets)
        places = tuple(targets.index(name) for name in names)
        return Input(producer.role, trials, names=names, places=places, threshold=threshold)


def identity_of(taken: Taken, predicted: Iterable[Predicted]) -> dict[str, Any]:
    """Returns the fields of a trial's identity that what it takes makes up.

    Args:
        taken: All of it.
        predicted: Which trials predict which of the cases that it trains and selects with.
    """
    origins = {given.network: _origin(given) for given in taken.origins}
    fields: dict[str, Any] = {"parent": origins.get("", origins or None)}
    for giving in taken.givings:
        role = giving.given.role
        trials = {" as ".join(each.of): each.selection for each in predicted if each.role == role}
        fields[role] = {"trials": trials, "places": list(giving.given.places), **giving.added}
    return fields


def _origin(given: Input) -> dict[str, Any]:
    if given.donor is not None:
        # While a donor is absent, its name keeps the provisional ids of different donors apart.
        return {"weights": given.donor.sha256 or {"unknown": given.donor.title}}
    return {"trials": list(given.trials)}
