"""The samples of a search as a graph without edges: which one runs next, and which is stopped early."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

import numpy as np

from xferlab.plan.sample_spec import SampleSpec
from xferlab.plan.spec import TrialSpec
from xferlab.records import layout
from xferlab.records.samples import (
    SampleRecord,
    read_begun,
    read_sample,
    read_samples,
    search_store,
    write_begun,
    write_sample,
    write_tuning,
)
from xferlab.records.store import Store
from xferlab.schedule.graph import State, TrialGraph
from xferlab.schedule.study import write_selections
from xferlab.search.plan import Tuning
from xferlab.search.sampler import sampler_of


class SampleGraph(TrialGraph):
    """Begun samples first, then new ones up to the number that is asked for.

    Attributes:
        tuning: The search.
        store: The search's own storage.
        num_samples: How many are asked for.
        records: The finished samples by id.
        slots: How many samples may run at once: those that come later may learn from those that are finished.
    """

    def __init__(self, tuning: Tuning, store: Store, num_samples: int):
        """Reads what earlier runs left, tells it to the sampler, and writes what the search is."""
        super().__init__([])
        self.tuning, self.num_samples, self.slots = tuning, num_samples, 1
        self.store = search_store(store, tuning.tuning_id)
        finished, begun = read_samples(store, tuning.tuning_id), read_begun(store, tuning.tuning_id)
        known = {record.number for record in finished} | {sample.number for sample in begun}
        self.records = {record.sample_id: record for record in finished}
        wanted = tuning.wanted
        self._sampler = sampler_of(wanted.search, tuning.space, wanted.seed, num_known=len(known))
        self._halving = Halving(**tuning.asha) if tuning.asha else None
        for record in finished:
            self._learn(record)
            self.stops(record)
            self.store.delete_dir(layout.TrialFiles(record.sample_id).checkpoint)  # a kill may have left it
        for sample in begun:
            self._sampler.resume(sample.number, sample.parameters)
            if sample.number <= num_samples:
                self._begin(sample)
        self._new = deque(number for number in range(1, num_samples + 1) if number not in known)
        write_selections(store, tuning.selections)
        write_tuning(store, tuning.to_json())

    @property
    def num_finished(self) -> int:
        """How many of the samples that are asked for are finished."""
        return sum(record.number <= self.num_samples for record in self.records.values())

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to start, now or later."""
        return not self._new and super().exhausted

    def take(self) -> TrialSpec | None:
        """Returns the next sample's job, now running; None if none may start at the moment.

        Raises:
            StudyError: The parameters of a new sample are valid one by one and not together.
        """
        counts = self.counts()
        if counts[State.RUNNING] >= self.slots:
            return None
        if self._new and not counts[State.READY]:
            number = self._new.popleft()
            sample = self.tuning.sample(number, self._sampler.draw(number))
            write_begun(self.store, sample)
            self._begin(sample)
        return super().take()

    def complete(self, trial_id: str) -> None:
        """Notes that a sample's record exists, and tells the sampler of it."""
        record = read_sample(self.store, trial_id)
        assert record is not None
        self.records[trial_id] = record
        self._learn(record)
        super().complete(trial_id)

    def stops(self, record: SampleRecord) -> bool:
        """Returns whether a sample is one of the worse at a rung of successive halving."""
        return self._halving is not None and self._halving.stops(record.sample_id, record.costs)

    def stop_if_worse(self, record: SampleRecord) -> bool:
        """Finishes a running sample by what it has reached if it `stops`; returns whether it does."""
        if stops := self.stops(record):
            write_sample(self.store, record)
        return stops

    def _begin(self, sample: SampleSpec) -> None:
        self._add(sample.job)
        self._offer(sample.sample_id)

    def _learn(self, record: SampleRecord) -> None:
        self._sampler.tell(record.number, record.parameters, record.costs, outcome=record.outcome)


class Halving:
    """Asynchronous successive halving (Li et al. 2020, A system for massively parallel tuning).

    At epoch `grace_epochs`, at `reduction` times that, and so on, a sample goes on only if its cost is not
    above the quantile 1 / `reduction` (linear interpolation) of the samples that were there before it.
    """

    def __init__(self, grace_epochs: int, reduction: int):
        """Takes the first rung and how many of how many go on."""
        self._grace_epochs, self._reduction = grace_epochs, reduction
        self._rungs: dict[int, dict[str, float]] = defaultdict(dict)

    def stops(self, sample_id: str, costs: Sequence[float]) -> bool:
        """Notes a sample's cost by epoch; returns whether it is too high at a rung that is new to it."""
        stops, epoch = False, self._grace_epochs
        while epoch <= len(costs):
            rung = self._rungs[epoch]
            if sample_id not in rung:
                before = list(rung.values())
                if before and costs[epoch - 1] > np.percentile(before, 100 / self._reduction):
                    stops = True
                rung[sample_id] = costs[epoch - 1]
            epoch *= self._reduction
        return stops
