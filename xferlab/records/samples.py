"""Searches on the storage: finished samples with their curves, begun ones, and what a search is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from xferlab.errors import RecordError
from xferlab.plan.sample_spec import TUNING_VERSION, SampleSpec
from xferlab.records import codec
from xferlab.records.layout import SEARCHES, SearchFiles
from xferlab.records.store import Store


@dataclass(frozen=True)
class RepetitionCurve:
    """One repetition of a sample.

    Attributes:
        trial_id: Id of the same training in a study that includes these parameters.
        losses: Judged validation loss by epoch of the best weights so far.
        best_epoch: Epoch of the best weights, 0 before the first epoch.
        stopped_by: `patience`, `max_epochs`, or empty where the sample ended before the training.
    """

    trial_id: str
    losses: tuple[float, ...]
    best_epoch: int
    stopped_by: str


@dataclass(frozen=True)
class SampleRecord:
    """A finished sample; a function of its parameters (and, where it was stopped, of the others).

    Attributes:
        sample_id: Its id.
        tuning_id: The search.
        number: From 1.
        parameters: Value of every path of the space.
        outcome: `complete` (every repetition ended by itself), `stopped` (early, as one of the worse),
            `diverged` (a loss became infinite or NaN).
        num_epochs: Epochs finished by the sample; a repetition that stopped before has fewer.
        max_epochs: Upper bound.
        curve: Mean over repetitions by epoch of the judged loss of the best weights so far; a repetition
            that has stopped keeps its last value.
        repetitions: One curve each.
    """

    sample_id: str
    tuning_id: str
    number: int
    parameters: Mapping[str, Any]
    outcome: str
    num_epochs: int
    max_epochs: int
    curve: tuple[float, ...]
    repetitions: tuple[RepetitionCurve, ...]

    @property
    def loss(self) -> float | None:
        """The last value of the curve; None if it diverged or has no epoch."""
        return self.curve[-1] if self.curve and self.outcome != "diverged" else None

    @property
    def epochs_trained(self) -> int:
        """Epochs of all repetitions together."""
        return sum(len(repetition.losses) for repetition in self.repetitions)

    @property
    def epochs_saved(self) -> int:
        """Epochs that stopping early has saved at most: patience might have ended a repetition before."""
        if self.outcome != "stopped":
            return 0
        running = [repetition for repetition in self.repetitions if not repetition.stopped_by]
        return sum(self.max_epochs - len(repetition.losses) for repetition in running)

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON value; `from_json` is its inverse."""
        return {"version": TUNING_VERSION, **asdict(self)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> SampleRecord:
        """Returns the record that `to_json` wrote.

        Raises:
            RecordError: Another version of xferlab wrote it.
        """
        _check_version(value, f"record of sample {value.get('sample_id')}")
        fields = {key: item for key, item in value.items() if key != "version"}
        fields["curve"] = tuple(fields["curve"])
        fields["repetitions"] = tuple(
            RepetitionCurve(**{**curve, "losses": tuple(curve["losses"])}) for curve in fields["repetitions"]
        )
        return SampleRecord(**fields)


def best_of(records: list[SampleRecord]) -> SampleRecord | None:
    """Returns the complete sample of the lowest loss, the first of equals; None without a complete one."""
    complete = [record for record in records if record.outcome == "complete" and record.loss is not None]
    return min(complete, key=lambda record: (record.loss, record.number), default=None)


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
    _check_version(document, f"search {tuning_id}")
    return document


def write_sample(store: Store, record: SampleRecord) -> None:
    """Writes the record that finishes a sample, then removes what was needed to resume it."""
    files = SearchFiles(record.tuning_id)
    codec.write_json(store, files.sample(record.sample_id), record.to_json())
    store.delete_dir(files.open_sample(record.sample_id))


def read_sample(store: Store, tuning_id: str, sample_id: str) -> SampleRecord | None:
    """Returns the record of a finished sample; None where it is absent or damaged.

    Raises:
        RecordError: Another version of xferlab wrote it.
    """
    body = _undamaged(store, SearchFiles(tuning_id).sample(sample_id))
    return SampleRecord.from_json(body) if body else None


def read_samples(store: Store, tuning_id: str) -> list[SampleRecord]:
    """Returns the records of all finished samples, by number."""
    names = [name for name in store.list(SearchFiles(tuning_id).samples) if name.endswith(".json")]
    records = [read_sample(store, tuning_id, name.removesuffix(".json")) for name in names]
    return sorted(filter(None, records), key=lambda record: record.number)


def write_begun(store: Store, sample: SampleSpec) -> None:
    """Writes what a sample is, before it runs: a search that learns from its samples needs it to resume."""
    codec.write_json(store, SearchFiles(sample.tuning_id).open_spec(sample.sample_id), sample.to_json())


def read_begun(store: Store, tuning_id: str) -> list[SampleSpec]:
    """Returns the samples that were begun and are not finished, by number; damaged ones are left out."""
    files = SearchFiles(tuning_id)
    bodies = {
        sample_id: _undamaged(store, files.open_spec(sample_id))
        for sample_id in store.list(files.open_samples)
    }
    begun = [
        SampleSpec.from_json(body)
        for sample_id, body in bodies.items()
        if body and read_sample(store, tuning_id, sample_id) is None
    ]
    return sorted(begun, key=lambda sample: sample.number)


def sweep(store: Store, tuning_id: str) -> None:
    """Removes what a kill left between the record of a sample and its tidying up."""
    files = SearchFiles(tuning_id)
    for sample_id in store.list(files.open_samples):
        if read_sample(store, tuning_id, sample_id) is not None:
            store.delete_dir(files.open_sample(sample_id))


def read_attempts(store: Store, tuning_id: str, sample_id: str) -> list[dict[str, Any]]:
    """Returns the attempts at a sample; empty where the file is absent or damaged."""
    body = _undamaged(store, SearchFiles(tuning_id).attempts(sample_id))
    return list(body.get("attempts", []))


def write_attempts(store: Store, tuning_id: str, sample_id: str, attempts: list[dict[str, Any]]) -> None:
    """Writes the attempts at a sample."""
    body = {"version": TUNING_VERSION, "attempts": attempts}
    codec.write_json(store, SearchFiles(tuning_id).attempts(sample_id), body)


def _undamaged(store: Store, name: str) -> dict[str, Any]:
    """Returns the body of a JSON file; empty where it is absent or damaged."""
    try:
        return codec.read_json(store, name) or {}
    except RecordError:
        return {}


def _check_version(value: Mapping[str, Any], what: str) -> None:
    if value.get("version") != TUNING_VERSION:
        raise RecordError(
            f"the {what} has version {value.get('version')}, and this xferlab reads {TUNING_VERSION}; "
            "use the xferlab that wrote it, or another storage"
        )
