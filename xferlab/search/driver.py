"""Which samples of a search run, and what became of them. The records decide, not a worker's message."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from xferlab.plan.sample_spec import SampleSpec
from xferlab.records import codec, layout
from xferlab.records.samples import (
    SampleRecord,
    read_attempts,
    read_begun,
    read_sample,
    read_samples,
    sweep,
    write_begun,
    write_sample,
    write_tuning,
)
from xferlab.records.store import Store
from xferlab.search.plan import Tuning
from xferlab.search.sampler import Sampler, sampler_of


class SampleListener(Protocol):
    """Watches a search."""

    def begin(self, num_samples: int, finished: int, begun: int) -> None:
        """The run starts: so many samples are asked for, finished already, and to go on."""

    def epoch(self, record: SampleRecord) -> None:
        """A sample finished an epoch; the record is what it would be if it ended now."""

    def finished(self, record: SampleRecord) -> None:
        """A sample is finished."""

    def failed(self, sample: SampleSpec, reason: str) -> None:
        """A sample could not be run; the next run of the search tries it again."""


class Sampling:
    """Hands out samples that are not finished: begun ones first, then new ones up to the number asked for."""

    def __init__(self, tuning: Tuning, store: Store, num_samples: int, *, listener: SampleListener):
        """Reads what earlier runs left, and tells it to the sampler."""
        self.tuning, self._store, self._listener = tuning, store, listener
        self._num_samples = num_samples
        records = read_samples(store, tuning.tuning_id)
        begun = read_begun(store, tuning.tuning_id)
        wanted = tuning.wanted
        self._sampler: Sampler = sampler_of(
            wanted.search, tuning.space, wanted.seed, num_known=len(records) + len(begun)
        )
        for record in records:
            self._tell(record)
        for sample in begun:
            self._sampler.resume(sample.number, sample.parameters)
        self.samples: dict[str, SampleSpec] = {}
        self.running: set[str] = set()
        self._begun = deque(sample for sample in begun if sample.number <= num_samples)
        known = {record.number for record in records} | {sample.number for sample in begun}
        self._new = deque(number for number in range(1, num_samples + 1) if number not in known)
        self.earlier = tuple(records)
        self.num_failed = 0

    def begin(self) -> None:
        """Writes what the search is and the selections that its samples refer to."""
        for digest, selection in self.tuning.selections.items():
            if not self._store.exists(layout.selection_path(digest)):
                codec.write_json(self._store, layout.selection_path(digest), selection.to_json())
        write_tuning(self._store, self.tuning.to_json())
        sweep(self._store, self.tuning.tuning_id)
        finished = sum(one.number <= self._num_samples for one in self.earlier)
        self._listener.begin(self._num_samples, finished, len(self._begun))

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to hand out."""
        return not (self._begun or self._new)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to hand out and nothing runs."""
        return self.exhausted and not self.running

    @property
    def num_left(self) -> int:
        """How many samples may still be handed out."""
        return len(self._begun) + len(self._new)

    def take(self) -> SampleSpec | None:
        """Returns the next sample, now running; None if none is left.

        Raises:
            StudyError: The parameters of a new sample are valid one by one and not together.
        """
        if self._begun:
            sample = self._begun.popleft()
        elif self._new:
            number = self._new.popleft()
            sample = self.tuning.sample(number, self._sampler.draw(number))
            write_begun(self._store, sample)
        else:
            return None
        self.samples[sample.sample_id] = sample
        self.running.add(sample.sample_id)
        return sample

    def progress(self, record: SampleRecord) -> None:
        """Passes an epoch on."""
        self._listener.epoch(record)

    def stop(self, record: SampleRecord) -> None:
        """Records a sample that is stopped early."""
        write_sample(self._store, record)

    def settle(self, sample_id: str, *, failed: bool) -> None:
        """Notes that a sample does not run any more: finished if its record says so, else failed or open."""
        if sample_id not in self.running:
            return
        self.running.discard(sample_id)
        record = read_sample(self._store, self.tuning.tuning_id, sample_id)
        if record is not None:
            self._tell(record)
            self._listener.finished(record)
        elif failed:
            self.num_failed += 1
            self._listener.failed(self.samples[sample_id], self._reason(sample_id))

    def _reason(self, sample_id: str) -> str:
        attempts = read_attempts(self._store, self.tuning.tuning_id, sample_id)
        told = attempts[-1].get("failure") if attempts else None
        return str(told or "its worker ended without giving a reason; it was probably killed")

    def _tell(self, record: SampleRecord) -> None:
        self._sampler.tell(record.number, record.parameters, record.curve, outcome=record.outcome)
