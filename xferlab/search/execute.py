"""A search on the connected cluster: the executor of studies, with samples in place of trials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from xferlab.errors import RecordError
from xferlab.plan.spec import TrialSpec
from xferlab.records.samples import SampleRecord, read_sample, read_spec, search_store
from xferlab.records.store import Store
from xferlab.schedule import nodes, ray_tune
from xferlab.schedule.listener import Listener
from xferlab.schedule.retry_policy import Ending, RetryPolicy
from xferlab.schedule.stop import StopRequest
from xferlab.search.graph import SampleGraph


def execute(
    graph: SampleGraph, *, listener: Listener, retries: int, cache_dir: Path, stop: StopRequest
) -> Ending:
    """Runs all samples that are left, and says what ended the search early; failures as in a study."""
    policy = RetryPolicy(graph, graph.store, listener, retries=retries, is_complete=_is_finished)
    graph.slots = nodes.num_slots(graph.tuning.base[0])

    def is_worse(report: Mapping[str, Any]) -> bool:
        record = report.get("record")
        return record is not None and graph.stop_if_worse(SampleRecord.from_json(json.loads(record)))

    train = partial(train_sample, graph.tuning.tuning_id)
    return ray_tune.execute(policy, cache_dir=cache_dir, stop=stop, train=train, stop_early=is_worse)


def train_sample(
    tuning_id: str, job: TrialSpec, store: Store, cache_dir: Path, reporter: ray_tune.Reporter
) -> None:
    """Runs the sample of a job in a worker; its driver decides after each epoch whether it goes on."""
    # Imported here: the driver needs no torch.
    from xferlab.search.worker import SampleHooks, run_sample
    from xferlab.trial import environment
    from xferlab.trial.examples import TrialContext

    sample = read_spec(search_store(store, tuning_id), job.trial_id)
    if sample is None:
        raise RecordError(f"{job.name}: its spec is missing or damaged; run the search again")

    def on_epoch(record: SampleRecord) -> None:
        reporter.note(record.num_epochs, record.curve[-1])
        reporter.report(record=json.dumps(record.to_json()))

    context = TrialContext(store, cache_dir, environment.prepare(job.identity.execution))
    run_sample(sample, context, SampleHooks(stop=reporter.stopped, on_epoch=on_epoch))


def _is_finished(search: Store, job: TrialSpec) -> bool:
    return read_sample(search, job.trial_id) is not None
