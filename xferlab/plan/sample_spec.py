"""Hand-over value of a search: one sample. JSON round trip, no torch, no study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from xferlab.plan.spec import TrialSpec


@dataclass(frozen=True)
class SampleSpec:
    """Everything needed to run one sample, anywhere, again.

    Attributes:
        sample_id: Hash of the search, the number and the trials.
        tuning_id: The search that it belongs to.
        number: From 1.
        parameters: Value of every path of the space.
        trials: One training for each repetition, with nothing to evaluate.
        judge: Fields of the untuned arm's training that say how scores are computed.
    """

    sample_id: str
    tuning_id: str
    number: int
    parameters: Mapping[str, Any]
    trials: tuple[TrialSpec, ...]
    judge: Mapping[str, Any] = field(default_factory=dict)

    @property
    def max_epochs(self) -> int:
        """Upper bound on epochs."""
        return max(int(trial.max_epochs) for trial in self.trials)

    @property
    def job(self) -> TrialSpec:
        """What an executor runs: a trial under the sample's id, with the resources of the first one."""
        return replace(self.trials[0], trial_id=self.sample_id, name=f"sample {self.number}", inputs=())

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON value; `from_json` is its inverse."""
        return {**vars(self), "trials": [trial.to_json() for trial in self.trials]}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> SampleSpec:
        """Returns the sample that `to_json` wrote.

        Raises:
            RecordError: Another version of xferlab wrote it.
        """
        return SampleSpec(**{**value, "trials": tuple(map(TrialSpec.from_json, value["trials"]))})
