"""What the trials of an arm start from: other trials, or given weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xferlab.plan.growing import Growing
from xferlab.plan.spec import WEIGHTS, Donor, Input
from xferlab.study.schema import Stage, Study


class Origins:
    """What each trial of an arm starts from."""

    def __init__(self, growing: Growing, study: Study, ids: Mapping[tuple[str, int], str]):
        """Takes the arm's study and, by stage and repetition, the ids of its trials so far."""
        self._growing, self._study, self._ids = growing, study, ids

    def of(self, stage: Stage, repetition: int) -> tuple[Input, ...] | None:
        """Returns what a trial starts from; None where a parent has no trial."""
        if stage.starts_from is None:
            return ()
        origin = self._weights(stage, stage.starts_from, repetition)
        return None if origin is None else (origin,)

    def _weights(self, stage: Stage, parent_name: str, repetition: int) -> Input | None:
        parent = self._study.stages[parent_name]
        if parent.weights is not None:
            name, path = parent.weights.name, parent.weights.path
            digest = self._growing.setting.donors.get(name or path or "") or parent.weights.sha256
            return Input(WEIGHTS, donor=Donor(parent_name, name, path, digest))
        available = {r: trial_id for (name, r), trial_id in self._ids.items() if name == parent_name}
        paired = repetition if (parent.repetitions or 1) > 1 else 1
        if not available or (stage.chaining == "paired" and paired not in available):
            return None
        if stage.chaining == "paired":
            return Input(WEIGHTS, (available[paired],))
        self._growing.warn(
            f"best {parent_name}",
            f"stages.{parent_name}",
            f"the best of {len(available)} repetitions feeds all trials that start from it; "
            "another number of repetitions renews those trials and their descendants",
            kind="stages that start from the best",
        )
        return Input(WEIGHTS, tuple(sorted(available.values())))


def identity_of(inputs: tuple[Input, ...]) -> dict[str, Any]:
    """Returns the fields of a trial's identity that its inputs make up."""
    return {"parent": next((_origin(given) for given in inputs if given.role == WEIGHTS), None)}


def _origin(given: Input) -> dict[str, Any]:
    if given.donor is not None:
        # While a donor is absent, its name keeps the provisional ids of different donors apart.
        return {"weights": given.donor.sha256 or {"unknown": given.donor.title}}
    return {"trials": list(given.trials)}
