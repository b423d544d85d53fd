"""All trials of a study as one Ray Tune run, without barriers between stages.

Tune gets a fresh run each time, seeded from the records: none of its own state is ever read back, and it
retries nothing: `RetryPolicy` decides. The hooks into `SearchGenerator`, `_create_trial_from_spec` and
`Trial.handle_error` are private to Ray; the version range in `pyproject.toml` is the tested one.
"""

from __future__ import annotations

import atexit
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import FailureConfig, PlacementGroupFactory, RunConfig, TuneConfig, Tuner
from ray.tune.experiment.config_parser import _create_trial_from_spec, _make_parser
from ray.tune.search import Searcher
from ray.tune.search.search_generator import SearchGenerator

from xferlab.errors import InterruptedTrialError, XferlabError
from xferlab.plan.spec import TrialSpec
from xferlab.records import reader
from xferlab.records.schema import EpochResult
from xferlab.records.store import Store
from xferlab.schedule import machine, ray_session
from xferlab.schedule.graph import State
from xferlab.schedule.nodes import bundle
from xferlab.schedule.ray_session import NeverRestored, StopWhen
from xferlab.schedule.retry_policy import Ending, RetryPolicy
from xferlab.schedule.stop import StopRequest
from xferlab.schedule.worker_failures import MemoryKills, classify
from xferlab.trial.failure import HOPELESS

REPORT_EVERY_S = 1.0
SAVE_WITHIN_S = 4.0
"""Time that a stopped trial has for its checkpoint; Tune kills after 5 s what it stops."""


def execute(policy: RetryPolicy, *, cache_dir: Path, stop: StopRequest) -> Ending:
    """Runs all that may run on the connected cluster, and says what ended it early.

    Args:
        policy: Of the graph to run.
        cache_dir: Folder of decoded images and of the mirror's files on each machine.
        stop: Signals that end it early.
    """
    if policy.graph.exhausted:
        return Ending()
    search = _BoardSearch(policy, stop, cache_dir=cache_dir)
    with ray_session.scratch(policy.store, policy.study) as storage:
        tuner = Tuner(
            tune.with_parameters(_work, access=ray_session.Access.to(policy.store)),
            tune_config=TuneConfig(
                search_alg=search, num_samples=len(policy.graph.trials), reuse_actors=True
            ),
            run_config=RunConfig(
                name="tune",
                failure_config=FailureConfig(max_failures=0),
                stop=StopWhen(lambda: search.stopping),
                verbose=0,
                **storage,
            ),
        )
        with ray_session.quiet():
            tuner.fit()
    _release_interrupted(policy, {one.trial.trial_id for one in search.handed.values() if one.last})
    if problem := search.problem or stop.problem:
        raise problem
    return Ending(stop.signal if not policy.graph.exhausted else None, policy.repeated)


@dataclass
class _Handed:
    """A trial in Tune's hands.

    Attributes:
        trial: Ours.
        last: Its worker's last report; empty before the first.
        error: What Tune says that ended it.
        tuned: Tune's.
    """

    trial: TrialSpec
    last: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None
    tuned: Any = None


class _BoardSearch(NeverRestored, SearchGenerator):  # type: ignore[misc]
    """Hands the graph's trials to Tune, under our own ids, as soon as they are ready."""

    def __init__(self, policy: RetryPolicy, stop: StopRequest, *, cache_dir: Path):
        super().__init__(Searcher())
        self._court, self._stop = policy, stop
        self.handed: dict[str, _Handed] = {}
        self.problem: XferlabError | None = None
        self._kills = MemoryKills()
        self._ended: list[Any] = []
        self._num_handed: dict[str, int] = {}
        self._common = {"cache_dir": str(cache_dir)}
        self._tune_parser = _make_parser()

    @property
    def stopping(self) -> bool:
        """Whether the run is to end before all is done."""
        return self._stop.asked() or self._court.repeated is not None or self.problem is not None

    def next_trial(self) -> Any:
        """Returns a Tune trial for the next ready one, or None."""
        if not self._num_handed:
            self._stop.listen()  # Tune takes SIGUSR1 for itself when a run starts
        while self._ended:
            _forget(self._ended.pop())
        trial = None if self.stopping else self._court.graph.take()
        if trial is None:
            return None
        # A string, since Tune flattens and logs nested configurations.
        config = {**self._common, "spec": json.dumps(trial.to_json())}
        experiment = {**self._experiment.spec, "config": config}
        reserved = bundle(trial, self._court.alone(trial.trial_id))
        experiment["resources_per_trial"] = PlacementGroupFactory([reserved])
        handed = _Handed(trial)
        tune_id = self._tune_id(trial.trial_id)
        self.handed[tune_id] = handed
        tuned = _create_trial_from_spec(
            experiment, self._tune_parser, evaluated_params={}, experiment_tag="", trial_id=tune_id
        )
        tuned.handle_error = _Overhear(tuned.handle_error, handed)
        handed.tuned = tuned
        return tuned

    def _tune_id(self, trial_id: str) -> str:
        """Tune wants an id of its own for every attempt."""
        number = self._num_handed[trial_id] = self._num_handed.get(trial_id, 0) + 1
        return trial_id if number == 1 else f"{trial_id}-{number}"

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Passes progress on. Tune calls a trial started when it asks for a worker; the first report is."""
        handed = self.handed[trial_id]
        if not handed.last:
            self._court.started(handed.trial)
        handed.last = result
        if result.get("epoch"):
            self._court.listener.epoch(handed.trial, result["epoch"], result["best_score"])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Lets the records decide what became of a trial."""
        if error and self.stopping:  # it may have failed for that; it stays open
            return
        handed = self.handed.pop(trial_id)
        self._ended.append(handed.tuned)
        told = classify(handed.error, handed.last, self._kills) if error else None
        try:
            self._court.ended(handed.trial, told)
        except XferlabError as problem:  # Tune would log it and go on
            self.problem = problem

    def is_finished(self) -> bool:
        """Returns whether nothing is left to hand out, now or later."""
        return self.stopping or self._court.graph.exhausted

    def save_to_dir(self, dirpath: str, session_str: str) -> None:
        """Saves nothing: the records are the state."""

    def has_checkpoint(self, dirpath: str) -> bool:
        """Returns False: a fresh run starts from the records."""
        return False


def _forget(tuned: Any) -> None:
    """Empties a trial that Tune has ended: it keeps all of them, with what they were given and reported."""
    del tuned.handle_error
    tuned.config = tuned._Trial__unresolved_config = {}
    reported = tuned.run_metadata
    reported.last_result, reported.metric_analysis, reported.metric_n_steps = {}, {}, {}


class _Overhear(NeverRestored):
    """Notes the error that Tune gives to a trial: it tells searchers only that there was one."""

    def __init__(self, handle: Callable[[BaseException | None], None], handed: _Handed):
        self._handle, self._handed = handle, handed

    def __call__(self, error: BaseException | None = None) -> None:
        self._handed.error = error
        self._handle(error)


def _work(config: dict[str, Any], access: ray_session.Access) -> None:
    """One trial in a worker process. A hopeless failure ends it without an error, and the process stays.

    Any other error makes Tune end the process: none that met one goes on to another trial.
    """
    machine.prepare()  # of another node, which the command line did not see
    # Imported here: the driver needs no torch.
    from xferlab.trial.environment import host_memory_peak_gib
    from xferlab.trial.run import Hooks, run_trial

    spec = TrialSpec.from_json(json.loads(config["spec"]))
    ended, leaving = threading.Event(), threading.Event()
    reporter = _Reporter(host_memory_peak_gib)

    def leave() -> None:
        # Tune, or a machine that shuts down (SIGTERM), ends the process without waiting for this thread.
        leaving.set()
        reporter.stop()
        ended.wait(SAVE_WITHIN_S)

    atexit.register(leave)
    reporter.stopped()  # the first report tells the driver that the trial really runs
    hooks = Hooks(stop=reporter.stopped, on_epoch=reporter.note, on_resume=reporter.note)
    try:
        run_trial(spec, access.open(), cache_dir=Path(config["cache_dir"]), hooks=hooks)
    except HOPELESS:
        # Stored as failure.json; the driver reads it.
        return
    except InterruptedTrialError:
        if leaving.is_set():  # a function that returned would count as done; here the process ends
            ended.set()
            threading.Event().wait()
        # What Tune raises in a function that it stops, and expects to see.
        raise SystemExit(0) from None
    finally:
        ended.set()
        atexit.unregister(leave)


class _Reporter:
    """Reports at most once a second, since each report waits for the driver; that is where Tune says stop."""

    def __init__(self, memory_peak_gib: Callable[[], float]) -> None:
        self._epoch = 0
        self._best: float | None = None
        self._memory_peak_gib = memory_peak_gib
        self._reported_at = float("-inf")
        self._stopped = False

    def note(self, result: EpochResult, best_score: float | None) -> None:
        self._epoch, self._best = result.epoch, best_score

    def stop(self) -> None:
        self._stopped = True

    def stopped(self) -> bool:
        if not self._stopped and time.monotonic() - self._reported_at >= REPORT_EVERY_S:
            self._reported_at = time.monotonic()
            told = {
                "epoch": self._epoch,
                "best_score": self._best,
                "memory_peak_gib": self._memory_peak_gib(),
            }
            try:
                tune.report(told)
            except SystemExit:
                self._stopped = True
        return self._stopped


def _release_interrupted(policy: RetryPolicy, started: set[str]) -> None:
    """Makes trials ready again that were stopped; gives their workers time to save a checkpoint."""
    running = [one for one, state in policy.graph.states.items() if state is State.RUNNING]
    deadline = time.monotonic() + SAVE_WITHIN_S
    for trial_id in running:
        while trial_id in started and _is_open(policy.store, trial_id) and time.monotonic() < deadline:
            time.sleep(0.05)
        policy.graph.put_back(trial_id)


def _is_open(store: Store, trial_id: str) -> bool:
    attempts = reader.read_run(store, trial_id).get("attempts", [])
    return bool(attempts) and attempts[-1]["outcome"] == "running"
