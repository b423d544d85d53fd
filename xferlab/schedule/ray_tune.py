"""All trials of a study, or samples of a search, as one Ray Tune run, without barriers between stages.

Tune gets a fresh run each time, seeded from the records: none of its own state is ever read back, and it
retries nothing: `RetryPolicy` decides. The hooks into `SearchGenerator`, `_create_trial_from_spec`,
`Trial.handle_error` and the parts of the controller that stop a trial are private to Ray; the version range
in `pyproject.toml` is the tested one.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import FailureConfig, PlacementGroupFactory, RunConfig, Stopper, TuneConfig, Tuner
from ray.tune.experiment.config_parser import _create_trial_from_spec, _make_parser
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.search.search_generator import SearchGenerator

from xferlab.errors import XferlabError
from xferlab.plan.spec import TrialSpec
from xferlab.records import reader
from xferlab.records.store import Store
from xferlab.schedule import ray_session
from xferlab.schedule.graph import State
from xferlab.schedule.nodes import Mark, bundle, has_other, is_there, place_of
from xferlab.schedule.ray_worker import REPORT_EVERY_S, SAVE_WITHIN_S, Train, train_trial, work
from xferlab.schedule.retry_policy import Ending, RetryPolicy
from xferlab.schedule.stop import StopRequest
from xferlab.schedule.worker_failures import MemoryKills, classify


def execute(
    policy: RetryPolicy,
    *,
    cache_dir: Path,
    stop: StopRequest,
    train: Train = train_trial,
    stop_early: Callable[[Mapping[str, Any]], bool] = lambda report: False,
) -> Ending:
    """Runs all that may run on the connected cluster, and says what ended it early.

    Args:
        policy: Of the graph to run.
        cache_dir: Folder of decoded images and of the mirror's files on each machine.
        stop: Signals that end it early.
        train: Runs a trial in a worker.
        stop_early: Told of every report; whether to end its trial.
    """
    if policy.graph.exhausted:
        return Ending()
    driver = _Driver(policy, stop, cache_dir=cache_dir, stop_early=stop_early)
    policy.has_other = has_other
    with ray_session.scratch(policy.store, policy.study) as (storage, folder):
        mark = Mark.write(policy.store, f"{folder}/mark") if folder else None
        tuner = Tuner(
            tune.with_parameters(work, access=ray_session.Access.to(policy.store), train=train, mark=mark),
            tune_config=TuneConfig(search_alg=driver, scheduler=_Scheduler(driver), reuse_actors=True),
            run_config=RunConfig(
                name="tune",
                failure_config=FailureConfig(max_failures=0),
                stop=driver,
                verbose=0,
                **storage,
            ),
        )
        with ray_session.quiet():
            tuner.fit()
    _release_interrupted(policy, {handed.trial.trial_id for handed in driver.handed.values() if handed.last})
    if problem := driver.problem or stop.problem:
        raise problem
    return Ending(stop.signal if not policy.graph.exhausted else None, policy.repeated)


class _NeverPickled:
    """Tune pickles its parts to restore them; ours live in the driver alone, and nothing is restored."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return object, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


@dataclass
class _Handed(_NeverPickled):
    """A trial in Tune's hands; takes the place of `handle_error` of Tune's own, which tells nobody the error.

    Attributes:
        trial: Ours.
        tuned: Tune's.
        besides: The nodes that it is kept from.
        last: Its worker's last report; empty before the first.
        error: What Tune says that ended it.
    """

    trial: TrialSpec
    tuned: Any
    besides: frozenset[str] = frozenset()
    last: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self._handle_error = self.tuned.handle_error
        self.tuned.handle_error = self

    def __call__(self, error: BaseException | None = None) -> None:
        self.error = error
        self._handle_error(error)

    def forget(self) -> None:
        """Empties Tune's trial, which has ended: Tune keeps all, with what they were given and reported."""
        del self.tuned.handle_error
        self.tuned.config = self.tuned._Trial__unresolved_config = {}
        reported = self.tuned.run_metadata
        reported.last_result, reported.metric_analysis, reported.metric_n_steps = {}, {}, {}


class _Driver(_NeverPickled, SearchGenerator, Stopper):  # type: ignore[misc]
    """Hands the graph's trials to Tune, under our own ids, as soon as they are ready."""

    def __init__(
        self,
        policy: RetryPolicy,
        stop: StopRequest,
        *,
        cache_dir: Path,
        stop_early: Callable[[Mapping[str, Any]], bool],
    ):
        super().__init__(Searcher())
        self._policy, self._stop, self._stop_early = policy, stop, stop_early
        self.handed: dict[str, _Handed] = {}
        self.problem: XferlabError | None = None
        self._kills = MemoryKills()
        self._ended: list[_Handed] = []
        self._num_attempts: Counter[str] = Counter()
        self._looks_at = float("-inf")
        self._cache_dir = str(cache_dir)
        self._tune_parser = _make_parser()

    def stop_all(self) -> bool:
        """Returns whether the run is to end before all is done; Tune asks several times a second."""
        return self._stop.asked() or self._policy.repeated is not None or self.problem is not None

    def next_trial(self) -> Any:
        """Returns a Tune trial for the next ready one, or None."""
        if not self._num_attempts:
            self._stop.listen()  # Tune takes SIGUSR1 for itself when a run starts
        while self._ended:
            self._ended.pop().forget()
        try:
            trial = None if self.stop_all() else self._policy.take()
        except XferlabError as error:  # Tune would log it and go on
            self.problem, trial = error, None
        return self._hand(trial) if trial else None

    def _hand(self, trial: TrialSpec) -> Any:
        # A string, since Tune flattens and logs nested configurations.
        config = {"cache_dir": self._cache_dir, "spec": json.dumps(trial.to_json())}
        besides = self._policy.failed_on(trial)
        reserved = bundle(trial, self._policy.alone(trial.trial_id), besides=besides)
        selectors = [{"ray.io/node-id": f"!in({','.join(sorted(besides))})"}] if besides else None
        experiment = {
            **self._experiment.spec,
            "config": config,
            "resources_per_trial": PlacementGroupFactory([reserved], bundle_label_selector=selectors),
        }
        # Tune wants another id for every attempt.
        self._num_attempts[trial.trial_id] += 1
        tune_id = f"{trial.trial_id}-{self._num_attempts[trial.trial_id]}"
        tuned = _create_trial_from_spec(
            experiment, self._tune_parser, evaluated_params={}, experiment_tag="", trial_id=tune_id
        )
        self.handed[tune_id] = _Handed(trial, tuned, besides)
        return tuned

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Takes a report; returns whether to stop its trial. Of one that is done, the last comes again."""
        handed = self.handed[trial_id]
        if result.get("done"):
            return False
        if not handed.last:  # Tune calls a trial started when it asks for a worker; here one really runs
            self._policy.started(handed.trial)
        handed.last = result
        if result["epoch"]:
            self._policy.listener.epoch(handed.trial, result["epoch"], result["best_score"])
        try:
            return self._stop_early(result)
        except XferlabError as error:
            self.problem = error
            return False

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Does nothing: the report has been taken."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Lets the records decide what became of a trial."""
        if error and self.stop_all():  # it may have failed for that; it stays open
            return
        handed = self.handed.pop(trial_id)
        self._ended.append(handed)
        last = handed.last or place_of(handed.error)
        reported = classify(handed.error, last, self._kills) if error else None
        node = last.get("node", "")
        try:
            self._policy.ended(handed.trial, reported, node="" if error and not is_there(node) else node)
        except XferlabError as problem:
            self.problem = problem

    def stop_cancelled(self, controller: Any) -> None:
        """Stops trials that are cancelled, whether they run or wait for a worker."""
        if not self._policy.stops():
            return
        for handed in list(self.handed.values()):
            tuned = handed.tuned
            # Of a worker that is being given to a trial nobody can tell what it does; it runs in a moment.
            if handed.trial.trial_id not in self._policy.stops() or tuned in controller._resetting_trials:
                continue
            # Tune would keep the process for another trial, and this one would save no earlier than that.
            controller._started_actors.discard(controller._trial_to_actor.get(tuned))
            self.on_trial_complete(tuned.trial_id)
            _take_back(tuned, controller)

    def let_go(self, controller: Any) -> None:
        """Takes back trials that wait for other nodes than those that failed them, where these have left."""
        waiting = {key: handed for key, handed in self.handed.items() if handed.besides and not handed.last}
        if not waiting or time.monotonic() < self._looks_at:
            return
        self._looks_at = time.monotonic() + REPORT_EVERY_S
        nodes = ray.nodes()
        for tune_id, handed in waiting.items():
            tuned = handed.tuned
            if tuned in controller._resetting_trials or has_other(handed.trial, handed.besides, nodes):
                continue
            self._ended.append(self.handed.pop(tune_id))
            self._policy.graph.put_back(handed.trial.trial_id)
            _take_back(tuned, controller)

    def is_finished(self) -> bool:
        """Returns whether nothing is left to hand out, now or later."""
        return self.stop_all() or self._policy.graph.exhausted

    def save_to_dir(self, dirpath: str, session_str: str) -> None:
        """Saves nothing: the records are the state."""

    def has_checkpoint(self, dirpath: str) -> bool:
        """Returns False: a fresh run starts from the records."""
        return False


def _take_back(tuned: Any, controller: Any) -> None:
    """Does what `controller.stop_trial` does, but for Tune's words about it."""
    if tuned in controller._staged_trials:
        controller._unstage_trial_with_resources(tuned)
    controller._schedule_trial_stop(tuned)
    controller._live_trials.discard(tuned)


class _Scheduler(_NeverPickled, FIFOScheduler):  # type: ignore[misc]
    """Tune's own order. Of all parts of Tune, a scheduler alone may stop a trial at any time."""

    def __init__(self, driver: _Driver):
        super().__init__()
        self._driver = driver

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Returns the first trial that waits, after those that are cancelled have been stopped."""
        self._driver.stop_cancelled(tune_controller._tune_controller)
        self._driver.let_go(tune_controller._tune_controller)
        return super().choose_trial_to_run(tune_controller)


def _release_interrupted(policy: RetryPolicy, started: set[str]) -> None:
    """Makes trials ready again that were stopped; gives their workers time to save a checkpoint."""
    running = [trial_id for trial_id, state in policy.graph.states.items() if state is State.RUNNING]
    deadline = time.monotonic() + SAVE_WITHIN_S
    for trial_id in running:
        while trial_id in started and _is_open(policy.store, trial_id) and time.monotonic() < deadline:
            time.sleep(0.05)
        policy.graph.put_back(trial_id)


def _is_open(store: Store, trial_id: str) -> bool:
    attempts = reader.read_run(store, trial_id).get("attempts", [])
    return bool(attempts) and attempts[-1]["outcome"] == "running"
