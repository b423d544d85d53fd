"""States kept at the end of trainings: a longer training starts there and gives what it gives from scratch.

They lie under the course of their trials: the hash of an identity without the fields that only end it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xferlab.errors import RecordError
from xferlab.plan.identity import short_id
from xferlab.plan.spec import PlannedTrial, TrialSpec
from xferlab.records import reader
from xferlab.records.layout import STATE, STATES, state_path, states_folder
from xferlab.records.schema import EpochResult, TrialRecord, ended_by
from xferlab.records.store import Store


@dataclass(frozen=True)
class KeptState:
    """The state at the end of a trial's training.

    Attributes:
        name: Its file.
        record: What the trial recorded; the state must hold the same weights.
    """

    name: str
    record: TrialRecord

    @property
    def num_epochs(self) -> int:
        """Epochs that the trial trained."""
        return self.record.num_epochs


def starts_for(store: Store, spec: TrialSpec) -> list[KeptState]:
    """Returns the kept states of other trials that the training of a trial passes through, the longest first.

    The states themselves are not read: whoever starts from one verifies it.

    Raises:
        RecordError: Another version of xferlab wrote a record.
        StorageError: The storage cannot be read.
    """
    return _starts(store, spec, store.list(states_folder(spec.course_id)))


def kept_starts(store: Store, trials: Iterable[PlannedTrial]) -> dict[str, KeptState]:
    """Returns the kept state that each trial would start from, by trial id; errors as of `starts_for`.

    Trials of which only the plan is known are left out.
    """
    files: dict[str, list[str]] = defaultdict(list)
    for name, info in store.walk(STATES):
        files[name.split("/")[1]].append(info.base_name)
    specs = [trial for trial in trials if isinstance(trial, TrialSpec)] if files else []
    return {
        spec.trial_id: starts[0]
        for spec in specs
        if (starts := _starts(store, spec, files.get(spec.course_id, ())))
    }


def _starts(store: Store, spec: TrialSpec, files: Sequence[str]) -> list[KeptState]:
    """Returns those of the states in the folder of a trial's course that it passes through."""
    others = [name.removesuffix(STATE) for name in files if name.endswith(STATE)]
    usable = [
        KeptState(state_path(spec.course_id, other), record)
        for other in others
        if other != spec.trial_id
        and (record := reader.read_trial(store, other))
        and refusal(store, spec, record) is None
    ]
    return sorted(usable, key=lambda kept: (-kept.num_epochs, kept.name))


def refusal(store: Store, spec: TrialSpec, record: TrialRecord) -> str | None:
    """Returns why the training of a trial does not pass through the end of another's; None where it does."""
    if short_id(spec.identity.course_of(record.identity)) != spec.course_id:
        return "it differs in more than its end"
    try:
        history = reader.read_history(store, record.trial_id, sha256=record.history_sha256)
    except RecordError:  # without its epochs nothing tells where it leads
        return "its history is damaged"
    if len(history) > spec.max_epochs:
        return f"it has {len(history)} epochs, and the state after {spec.max_epochs} was not kept"
    if ended := _ends_before(history, spec):
        return f"the patience would have ended it after {ended} of its {len(history)} epochs"
    return None


def _ends_before(history: Sequence[EpochResult], spec: TrialSpec) -> int:
    """Returns the epoch before the last after which a trial's patience would have ended it; 0 for none."""
    best_epoch, patience = 0, spec.identity.training.patience
    for result in history[:-1]:
        best_epoch = result.epoch if result.improved else best_epoch
        if ended_by(result.epoch, best_epoch, max_epochs=len(history), patience=patience):
            return result.epoch
    return 0
