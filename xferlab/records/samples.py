"""Searches on the storage: what each one is, its finished samples, and those that it has begun.

A search is a storage within the storage (`search_store`): its samples lie there as trials lie in the other,
with `spec.json`, `run.json`, `checkpoint/`, and `record.json` once they are finished.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic.dataclasses import dataclass

from xferlab.errors import RecordError, other_version
from xferlab.plan.sample_spec import SampleSpec
from xferlab.records import codec, reader
from xferlab.records.layout import SEARCHES, TRIALS, SearchFiles, TrialFiles
from xferlab.records.schema import RECORD_VERSION, Record
from xferlab.records.store import Store

OUTCOMES = ("complete", "stopped", "diverged", "invalid")


@dataclass(frozen=True)
class RepetitionCurve:
    """One repetition of a sample.

    Attributes:
        trial_id: Id of the same training in a study that includes these parameters.
        scores: Validation score of the best weights so far, by epoch.
        best_epoch: Epoch of the best weights, 0 before the first epoch.
        stopped_by: `patience`, `max_epochs`, or empty where the sample ended before the training.
    """

    trial_id: str
    scores: tuple[float, ...]
    best_epoch: int
    stopped_by: str


@dataclass(frozen=True)
class SampleRecord(Record):
    """A finished sample; a function of its parameters (and, where it was stopped, of the other samples).

    Attributes:
        sample_id: Its id.
        tuning_id: The search.
        number: From 1.
        parameters: Value of every path of the space.
        outcome: `complete` (every repetition ended by itself), `stopped` (early, as one of the worse),
            `diverged` (its loss became infinite or NaN), `invalid` (nothing was trained: its values are valid
            one by one and not together).
        max_epochs: Upper bound.
        better: Whether `lower` or `higher` scores are better.
        repetitions: One curve each; none if the sample is invalid.
        reason: Why the sample is invalid.
    """

    sample_id: str
    tuning_id: str
    number: int
    parameters: Mapping[str, Any]
    outcome: str
    max_epochs: int
    better: str
    repetitions: tuple[RepetitionCurve, ...]
    reason: str = ""

    @property
    def num_epochs(self) -> int:
        """Epochs that the sample has finished; a repetition that stopped before has fewer."""
        return max((len(repetition.scores) for repetition in self.repetitions), default=0)

    @property
    def curve(self) -> tuple[float, ...]:
        """Mean over repetitions by epoch; a repetition that has stopped keeps its last score."""
        curves = [repetition.scores for repetition in self.repetitions]
        by_epoch = [[scores[min(e, len(scores) - 1)] for scores in curves] for e in range(self.num_epochs)]
        return tuple(sum(scores) / len(scores) for scores in by_epoch)

    @property
    def score(self) -> float | None:
        """The last of the curve; None if the sample diverged or has no epoch."""
        return self.curve[-1] if self.num_epochs and self.outcome != "diverged" else None

    @property
    def epochs_trained(self) -> int:
        """Epochs of all repetitions together."""
        return sum(len(repetition.scores) for repetition in self.repetitions)

    @property
    def epochs_saved(self) -> int:
        """Epochs that stopping early has saved at most: patience might have ended a repetition before."""
        if self.outcome != "stopped":
            return 0
        going_on = [repetition for repetition in self.repetitions if not repetition.stopped_by]
        return sum(self.max_epochs - len(repetition.scores) for repetition in going_on)

    @property
    def costs(self) -> tuple[float, ...]:
        """The curve, with the sign turned where higher scores are better: the lower, the better."""
        return self.curve if self.better == "lower" else tuple(-score for score in self.curve)

    def rank(self) -> tuple[int, float, int]:
        """Returns what sorts samples: those that trained to their end first, then the best and the first."""
        return OUTCOMES.index(self.outcome), self.costs[-1] if self.num_epochs else 0.0, self.number


def best_of(records: Sequence[SampleRecord]) -> SampleRecord | None:
    """Returns the complete sample of the best score, the first of equals; None without a complete one."""
    complete = [record for record in records if record.outcome == "complete"]
    return min(complete, key=SampleRecord.rank, default=None)


def search_store(store: Store, tuning_id: str) -> Store:
    """Returns the storage of a search within a storage."""
    return replace(store, root=store.path(SearchFiles(tuning_id).folder))


def write_tuning(store: Store, document: Mapping[str, Any]) -> None:
    """Writes what a search is."""
    codec.write_json(store, SearchFiles(document["tuning_id"]).tuning, document)


def read_tuning(store: Store, tuning_id: str) -> dict[str, Any]:
    """Returns what a search is.

    Raises:
        RecordError: There is none, it is damaged, or another version of xferlab wrote it.
    """
    document = codec.read_json(store, SearchFiles(tuning_id).tuning)
    if document is None:
        known = ", ".join(store.list(SEARCHES)) or "none"
        raise RecordError(f"{store.shown}: no search {tuning_id!r} (searches here: {known})")
    if document.get("version") != RECORD_VERSION:
        what = f"{store.shown}: search {tuning_id!r}"
        raise other_version(what, document.get("version"), RECORD_VERSION, storage=store.shown)
    return document


def write_sample(search: Store, record: SampleRecord) -> None:
    """Writes the record that finishes a sample of the search in a store, then removes its checkpoints."""
    codec.write_json(search, TrialFiles(record.sample_id).record, record.to_json())
    search.delete_dir(TrialFiles(record.sample_id).checkpoint)


def read_sample(search: Store, sample_id: str) -> SampleRecord | None:
    """Returns the record of a finished sample of the search in a store; None where it is absent or damaged.

    Raises:
        RecordError: Another version of xferlab wrote it.
    """
    body = reader.read_undamaged(search, TrialFiles(sample_id).record)
    return SampleRecord.from_json(body) if body else None


def read_samples(store: Store, tuning_id: str) -> list[SampleRecord]:
    """Returns the records of all finished samples of a search, by number."""
    search = search_store(store, tuning_id)
    records = [read_sample(search, sample_id) for sample_id in search.list(TRIALS)]
    return sorted((record for record in records if record), key=lambda record: record.number)


def write_begun(search: Store, sample: SampleSpec) -> None:
    """Writes what a sample is, before it runs: a search that suggests by what it knows needs it to go on."""
    codec.write_json(search, TrialFiles(sample.sample_id).spec, sample.to_json())


def read_spec(search: Store, sample_id: str) -> SampleSpec | None:
    """Returns what a sample of the search in a store is; None where the file is absent or damaged.

    Raises:
        RecordError: Another version of xferlab wrote it.
    """
    body = reader.read_undamaged(search, TrialFiles(sample_id).spec)
    return SampleSpec.from_json(body) if body else None


def read_begun(store: Store, tuning_id: str) -> list[SampleSpec]:
    """Returns the samples of a search that are begun and not finished, by number; without damaged ones."""
    search = search_store(store, tuning_id)
    unfinished = [name for name in search.list(TRIALS) if read_sample(search, name) is None]
    specs = [read_spec(search, sample_id) for sample_id in unfinished]
    return sorted((spec for spec in specs if spec), key=lambda spec: spec.number)
