"""The samples of a search as a graph without edges: which runs next, where, and which is stopped early."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xferlab.errors import RecordError, StudyError
from xferlab.plan.sample_spec import SampleSpec
from xferlab.plan.spec import TrialSpec
from xferlab.records import layout
from xferlab.records.samples import (
    SampleRecord,
    read_begun,
    read_sample,
    read_samples,
    read_spec,
    search_store,
    write_begun,
    write_sample,
    write_tuning,
)
from xferlab.records.store import Store
from xferlab.schedule.graph import Listener, State, TrialGraph
from xferlab.schedule.retry_policy import Ending, RetryPolicy
from xferlab.schedule.stop import StopRequest
from xferlab.schedule.study import write_selections
from xferlab.search.plan import Tuning
from xferlab.search.sampler import sampler_of

if TYPE_CHECKING:
    from xferlab.schedule.ray_worker import Reporter


class SampleGraph(TrialGraph):
    """Begun samples first, then new ones up to the number that is asked for.

    Attributes:
        tuning: The search.
        store: The search's own storage.
        num_samples: How many are asked for.
        records: The finished samples by id.
        slots: Tells how many samples may run at once: later ones may learn from those that are finished.
    """

    def __init__(self, tuning: Tuning, store: Store, num_samples: int):
        """Reads what earlier runs left, tells it to the sampler, and writes what the search is."""
        super().__init__([])
        self.tuning, self.num_samples = tuning, num_samples
        self.slots: Callable[[], int] = lambda: 1
        self.store = search_store(store, tuning.tuning_id)
        finished, begun = read_samples(store, tuning.tuning_id), read_begun(store, tuning.tuning_id)
        known = {record.number for record in finished} | {sample.number for sample in begun}
        self.records = {record.sample_id: record for record in finished}
        wanted = tuning.wanted
        self._sampler = sampler_of(wanted.search, tuning.space, wanted.seed, num_known=len(known))
        self._halving = Halving(**tuning.asha) if tuning.asha else None
        for record in finished:
            self._sampler.tell(record)
            if self._halving:
                self._halving.stops(record.sample_id, record.costs)
            self.store.delete_dir(layout.TrialFiles(record.sample_id).checkpoint)  # a kill may have left it
        for sample in begun:
            self._sampler.resume(sample)
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

        New samples whose parameters are not valid together are finished without a job.
        """
        counts = self.counts()
        if not (counts[State.READY] or self._new) or counts[State.RUNNING] >= self.slots():
            return None
        if not counts[State.READY] and (sample := self._next_sample()):
            write_begun(self.store, sample)
            self._begin(sample)
        return super().take()

    def complete(self, trial_id: str) -> None:
        """Notes that a sample's record exists, and tells the sampler of it."""
        record = read_sample(self.store, trial_id)
        assert record is not None
        self.records[trial_id] = record
        self._sampler.tell(record)
        super().complete(trial_id)

    def stop_if_worse(self, record: SampleRecord) -> bool:
        """Finishes a running sample if it is one of the worse at a rung; returns whether it is."""
        stops = self._halving is not None and self._halving.stops(record.sample_id, record.costs)
        if stops:
            write_sample(self.store, record)
        return stops

    def _next_sample(self) -> SampleSpec | None:
        while self._new:
            number = self._new.popleft()
            parameters = self._sampler.draw(number)
            try:
                return self.tuning.sample(number, parameters)
            except StudyError as error:
                record = self.tuning.invalid(number, parameters, error)
                write_sample(self.store, record)
                self.records[record.sample_id] = record
                self._sampler.tell(record)
        return None

    def _begin(self, sample: SampleSpec) -> None:
        self._add(sample.job)
        self._offer(sample.sample_id)


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


def execute(
    graph: SampleGraph,
    *,
    listener: Listener,
    retries: int,
    cache_dir: Path,
    stop: StopRequest,
    max_concurrent: int | None = None,
) -> Ending:
    """Runs all samples that are left on the connected cluster, by the executor and retries of studies.

    `max_concurrent` is how many run or wait at once; None for as many as the cluster has room for, which may
    grow or shrink meanwhile.
    """
    from xferlab.schedule import nodes, ray_tune  # Ray takes a second to import

    policy = RetryPolicy(
        graph,
        graph.store,
        listener,
        retries=retries,
        is_complete=lambda search, job: read_sample(search, job.trial_id) is not None,
    )
    graph.slots = lambda: max_concurrent or nodes.num_slots(graph.tuning.base[0])

    def is_worse(report: Mapping[str, Any]) -> bool:
        record = report.get("record")
        return record is not None and graph.stop_if_worse(SampleRecord.from_json(json.loads(record)))

    train = partial(train_sample, graph.tuning.tuning_id)
    return ray_tune.execute(policy, cache_dir=cache_dir, stop=stop, train=train, stop_early=is_worse)


def train_sample(tuning_id: str, job: TrialSpec, store: Store, cache_dir: Path, reporter: Reporter) -> None:
    """Runs the sample of a job in a worker; its driver decides after each epoch whether it goes on."""
    # Imported here: the driver needs no torch.
    from xferlab.search.worker import run_sample
    from xferlab.trial import environment
    from xferlab.trial.examples import TrialContext

    sample = read_spec(search_store(store, tuning_id), job.trial_id)
    if sample is None:
        raise RecordError(f"{job.name}: its spec is missing or damaged; run the search again")

    def on_epoch(record: SampleRecord) -> None:
        reporter.note(record.num_epochs, record.curve[-1])
        reporter.report(record=json.dumps(record.to_json()))

    context = TrialContext(store, cache_dir, environment.prepare(job.identity.execution))
    run_sample(sample, context, stop=reporter.stopped, on_epoch=on_epoch)
