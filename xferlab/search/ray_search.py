"""A search as one Ray Tune run: a Tune trial is a sample, and each of its results an epoch.

Like `ray_tune`, it starts a fresh run each time, from the records. A class is trained here and no function:
Tune then knows between two epochs whether a sample goes on, and asks for no epoch that nobody needs.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError
from ray.tune import CheckpointConfig, FailureConfig, PlacementGroupFactory, RunConfig, TuneConfig, Tuner
from ray.tune.experiment.config_parser import _create_trial_from_spec, _make_parser
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.search_generator import SearchGenerator

from xferlab.errors import XferlabError
from xferlab.plan.sample_spec import SampleSpec
from xferlab.plan.spec import TrialSpec
from xferlab.records import layout
from xferlab.records.samples import SampleRecord, read_sample
from xferlab.records.store import Store
from xferlab.schedule import machine, ray_session
from xferlab.schedule.lease import Lease
from xferlab.schedule.nodes import bundle, has_left
from xferlab.schedule.ray_session import NeverRestored, StopWhen
from xferlab.schedule.retry_policy import NODE_LOSSES
from xferlab.schedule.stop import StopRequest
from xferlab.schedule.worker_failures import node_reason
from xferlab.search.driver import Sampling
from xferlab.trial.failure import HOPELESS

# As what `ray_session` sets: a sample that diverges in its first epoch has no loss to report.
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")


def execute(sampling: Sampling, store: Store, *, cache_dir: Path, retries: int, stop: StopRequest) -> bool:
    """Runs all samples that are left on the connected cluster. Returns False if a signal ended it early.

    A failed sample is retried up to `retries` times by Tune, unless it must meet the failure again. The loss
    of its node does not count, up to `NODE_LOSSES` times without another epoch.
    """
    if sampling.exhausted:
        return True
    search = _SampleSearch(sampling, stop, cache_dir=cache_dir)
    with ray_session.scratch(store, sampling.tuning.tuning_id) as storage:
        tuner = Tuner(
            tune.with_parameters(_Sample, access=ray_session.Access.to(store)),
            tune_config=TuneConfig(
                search_alg=search,
                scheduler=_scheduler(sampling),
                num_samples=sampling.num_left,
                reuse_actors=True,
            ),
            run_config=RunConfig(
                name="tune",
                failure_config=FailureConfig(max_failures=retries),
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),  # ours are in the records
                stop=StopWhen(lambda: search.stopping),
                verbose=0,
                **storage,
            ),
        )
        with ray_session.quiet():
            tuner.fit()
    if problem := search.problem or stop.problem:
        raise problem
    return sampling.finished


def num_slots(trial: TrialSpec) -> int:
    """Returns how many samples the cluster can run side by side now, at least one."""
    free, wanted = ray.cluster_resources(), bundle(trial)
    fitting = [math.floor(float(free.get(kind, 0.0)) / amount) for kind, amount in wanted.items()]
    return max(1, min(fitting))


class SearchLease(Lease):
    """One process at a time drives a search; studies and other searches go on beside it."""

    def __init__(self, store: Store, study: str, tuning_id: str):
        """Names the search; nothing is taken yet."""
        super().__init__(store, f"{study} (search {tuning_id})")
        self._name = layout.SearchFiles(tuning_id).lease


def _scheduler(sampling: Sampling) -> Any:
    asha = sampling.tuning.asha
    if asha is None:
        return FIFOScheduler()
    scheduler = _Halving(
        time_attr="epoch",
        metric="loss",
        mode="min",
        max_t=2**31,  # a sample ends by itself; rungs go as far as there are epochs
        grace_period=asha["grace_epochs"],
        reduction_factor=asha["reduction"],
        stop_last_trials=False,
    )
    scheduler.recall(sampling)
    return scheduler


class _Known:
    """What a rung must know of a sample: its id."""

    def __init__(self, trial_id: str):
        self.trial_id = trial_id


class _Halving(NeverRestored, AsyncHyperBandScheduler):  # type: ignore[misc]
    """Asynchronous successive halving (Li et al. 2020) that knows the samples of earlier runs."""

    def recall(self, sampling: Sampling) -> None:
        """Fills the rungs with the curves of finished samples."""
        self._sampling = sampling
        for record in sampling.earlier:
            for epoch, loss in enumerate(record.curve, start=1):
                for bracket in self._brackets:
                    bracket.on_result(_Known(record.sample_id), epoch, -loss)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> Any:
        """Records a sample at the epoch at which it is stopped."""
        action = super().on_trial_result(tune_controller, trial, result)
        if action == TrialScheduler.STOP and not result.get("done"):
            self._sampling.stop(SampleRecord.from_json(json.loads(result["record"])))
        return action


class _SampleSearch(NeverRestored, SearchGenerator):  # type: ignore[misc]
    """Hands samples to Tune under their own ids, no more than run side by side: later ones may learn."""

    def __init__(self, sampling: Sampling, stop: StopRequest, *, cache_dir: Path):
        super().__init__(Searcher())
        self._sampling, self._stop = sampling, stop
        self._slots = num_slots(sampling.tuning.base[0])
        self._common = {"cache_dir": str(cache_dir)}
        self._tune_parser = _make_parser()
        self.problem: XferlabError | None = None

    @property
    def stopping(self) -> bool:
        """Whether the run is to end before all is done."""
        return self._stop.asked() or self.problem is not None

    def next_trial(self) -> Any:
        """Returns a Tune trial for the next sample, or None while all slots are taken."""
        if not self._sampling.samples:
            self._stop.listen()  # Tune takes SIGUSR1 for itself when a run starts
        if self.stopping or len(self._sampling.running) >= self._slots:
            return None
        try:
            sample = self._sampling.take()
        except XferlabError as error:  # Tune would log it and go on for ever
            self.problem = error
            return None
        if sample is None:
            return None
        config = {**self._common, "sample": json.dumps(sample.to_json())}
        experiment = {**self._experiment.spec, "config": config}
        experiment["resources_per_trial"] = PlacementGroupFactory([bundle(sample.trials[0])])
        tuned = _create_trial_from_spec(
            experiment, self._tune_parser, evaluated_params={}, experiment_tag="", trial_id=sample.sample_id
        )
        tuned.handle_error = _NodeLossRetries(tuned)
        return tuned

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Passes progress on."""
        if "record" in result:
            self._sampling.progress(SampleRecord.from_json(json.loads(result["record"])))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Lets the records decide what became of a sample."""
        if error and self.stopping:  # it may have failed for that; it stays open
            return
        failed = error or "failure" in (result or {})
        try:
            self._sampling.settle(trial_id, failed=failed)
        except XferlabError as problem:  # Tune would log it and go on
            self.problem = problem

    def is_finished(self) -> bool:
        """Returns whether nothing is left to hand out."""
        return self.stopping or self._sampling.exhausted

    def save_to_dir(self, dirpath: str, session_str: str) -> None:
        """Saves nothing: the records are the state."""

    def has_checkpoint(self, dirpath: str) -> bool:
        """Returns False: a fresh run starts from the records."""
        return False


class _NodeLossRetries(NeverRestored):
    """Keeps losses of nodes out of the number of failures by which Tune decides on a retry."""

    def __init__(self, tuned: Any):
        self._tuned, self._handle = tuned, tuned.handle_error
        self._losses, self._reached = 0, 0

    def __call__(self, error: BaseException | None = None) -> None:
        known = self._tuned.run_metadata
        counted, reached = known.num_failures, known.last_result.get("epoch", 0)
        self._handle(error)
        if _node_went(error):
            self._losses = self._losses + 1 if reached == self._reached else 1
            self._reached = reached
            known.num_failures = counted + (self._losses > NODE_LOSSES)


def _node_went(error: BaseException | None) -> bool:
    return bool(node_reason(error)) or (isinstance(error, RayActorError) and has_left(error.actor_id))


class _Sample(tune.Trainable):  # type: ignore[misc]
    """A sample in a worker process; a hopeless failure ends it without an error: Tune is not to retry it."""

    def setup(self, config: dict[str, Any], access: ray_session.Access | None = None) -> None:
        """Takes the sample; it is loaded with its first epoch, so that a failure becomes a result."""
        self._config: dict[str, Any] = config
        self._access = access
        self._run: Any = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Leaves the sample for another."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Returns what an epoch gave."""
        try:
            record, done = self._next()
        except HOPELESS:
            # Stored with the attempt; the driver reads it.
            return {"failure": True, "done": True}
        losses = {} if record.loss is None else {"loss": record.loss}
        return {
            "epoch": record.num_epochs,
            **losses,
            "record": json.dumps(record.to_json()),
            "done": done,
        }

    def cleanup(self) -> None:
        """Stores the state of a sample that is to go on elsewhere."""
        if self._run is not None:
            self._run.leave()
            self._run = None

    def _next(self) -> tuple[SampleRecord, bool]:
        """Returns what the record would be after an epoch, and whether it is final; at once where it is."""
        machine.prepare()  # of another node, which the command line did not see
        # Imported here: the driver needs no torch.
        from xferlab.search.worker import SampleRun
        from xferlab.trial import environment
        from xferlab.trial.examples import TrialContext

        sample = SampleSpec.from_json(json.loads(self._config["sample"]))
        assert self._access is not None  # Tune gives it with every setup
        store = self._access.open()
        if self._run is None:
            known = read_sample(store, sample.tuning_id, sample.sample_id)
            if known is not None:  # the worker was lost between its record and Tune's hearing of it
                return known, True
            device = environment.prepare(sample.trials[0].identity.execution)
            self._run = SampleRun.begin(sample, TrialContext(store, Path(self._config["cache_dir"]), device))
        step = self._run.step()
        return step.record, step.done
