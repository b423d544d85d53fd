"""All trials of a study as one Ray Tune run, without barriers between stages. The only file that knows Ray.

Tune gets a fresh run each time, seeded from the records: none of its own state is ever read back. The hooks
into `SearchGenerator` and `_create_trial_from_spec` are private to Ray; the version range in `pyproject.toml`
is the tested one.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Read at import: no phoning home, no loggers beside our records, no snapshots of a state that nobody reads.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "86400")
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "64")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray
from ray import tune
from ray.tune import FailureConfig, PlacementGroupFactory, RunConfig, TuneConfig, Tuner
from ray.tune.experiment.config_parser import _create_trial_from_spec, _make_parser
from ray.tune.search import Searcher
from ray.tune.search.search_generator import SearchGenerator

from xferlab.errors import InterruptedTrialError, StorageError, UsageError
from xferlab.plan.spec import TrialSpec
from xferlab.records import reader
from xferlab.records.schema import EpochResult
from xferlab.records.store import Store
from xferlab.schedule.listener import Listener
from xferlab.schedule.outcome import HOPELESS, Court
from xferlab.schedule.ready import Board, State

REPORT_EVERY_S = 1.0
PROBE_S = 5.0
SAVE_WITHIN_S = 4.0
"""Time that a stopped trial has for its checkpoint; Tune kills after 5 s what it stops."""


def execute(
    board: Board,
    store: Store,
    *,
    cache_dir: Path,
    retries: int,
    listener: Listener,
) -> bool:
    """Runs all that may run on the connected cluster. Returns False if Ctrl-C or SIGTERM ended it early.

    A failed trial is retried up to `retries` times by Tune, unless the same spec must meet the failure again.
    """
    if board.exhausted:
        return True
    court = Court(board, store, listener)
    search = _BoardSearch(board, court, listener, cache_dir=cache_dir, location=store.location)
    with tempfile.TemporaryDirectory(prefix="xferlab-tune-") as scratch:
        tuner = Tuner(
            _work,
            tune_config=TuneConfig(search_alg=search, num_samples=len(board.trials), reuse_actors=True),
            run_config=RunConfig(
                name="tune",
                failure_config=FailureConfig(max_failures=retries),
                verbose=0,
                **_storage(store, scratch),
            ),
        )
        with _quiet(), _sigterm_as_ctrl_c():
            tuner.fit()
    _release_interrupted(board, store, search.started)
    return board.exhausted


@contextmanager
def cluster(address: str | None, *, num_cpus: int | None = None) -> Iterator[None]:
    """Joins the cluster at `address`, or starts one on this machine, for the time of the context.

    Raises:
        UsageError: There is no cluster at the address.
    """
    options: dict[str, Any] = (
        {"address": address} if address else {"num_cpus": num_cpus, "include_dashboard": False}
    )
    if address is None:
        options["address"] = "local"
    else:
        _probe(address)
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, configure_logging=True, **options)
    except ConnectionError as error:
        raise _no_cluster(address, f"{error}; a cluster with a token needs RAY_AUTH_MODE=token") from error
    try:
        yield
    finally:
        ray.shutdown()


def _probe(address: str) -> None:
    """Finds out at once that nobody listens there; Ray tries for minutes, then ends the process."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise _no_cluster(address, "an address is host:port")
    try:
        socket.create_connection((host, int(port)), timeout=PROBE_S).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str | None, why: str) -> UsageError:
    return UsageError(
        f"--address {address}: no Ray cluster answers ({why}). Give the address that "
        "`ray start --head` printed, `auto` on a node of the cluster, or leave it out to run here."
    )


def unmet_resources(trials: list[TrialSpec]) -> str:
    """Returns what trials ask for that no live node of the cluster has: they would wait; empty if none."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for trial in trials:
        wanted = _bundle(trial)
        if not any(all(node.get(kind, 0.0) >= amount for kind, amount in wanted.items()) for node in nodes):
            largest = {kind: max(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU")}
            return (
                f"stage {trial.stage!r} asks for {wanted}, and no node has that (largest: {largest}). "
                "Lower `resources` in the study, or add nodes."
            )
    return ""


def _bundle(trial: TrialSpec) -> dict[str, float]:
    resources = trial.settings["resources"]
    bundle = {"CPU": float(resources["cpu"])}
    if trial.identity["execution"]["device"] == "cuda":
        # Without a reservation Ray hides all GPUs from the worker: a study that names none gets a whole one.
        bundle["GPU"] = float(resources["gpu"]) or 1.0
    if resources["memory_gib"]:
        bundle["memory"] = float(resources["memory_gib"]) * 2**30
    return bundle


def _storage(store: Store, scratch: str) -> dict[str, Any]:
    """Where Tune keeps its scratch files: beside the records if other nodes must see them, else nowhere."""
    if len([node for node in ray.nodes() if node["Alive"]]) == 1:
        return {"storage_path": scratch}
    return {"storage_path": store.path("tune"), "storage_filesystem": store.filesystem}


class _NeverRestored:
    """Tune pickles its parts to restore them; ours live in the driver alone, and nothing is restored."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return object, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


class _BoardSearch(_NeverRestored, SearchGenerator):  # type: ignore[misc]
    """Hands the board's trials to Tune, under our own ids, as soon as they are ready."""

    def __init__(self, board: Board, court: Court, listener: Listener, *, cache_dir: Path, location: str):
        super().__init__(Searcher())
        self._board, self._court, self._listener = board, court, listener
        self.started: set[str] = set()
        self._common = {"cache_dir": str(cache_dir), "location": location}
        self._tune_parser = _make_parser()

    def next_trial(self) -> Any:
        """Returns a Tune trial for the next ready one, or None."""
        trial = self._board.take()
        if trial is None:
            return None
        # A string, since Tune flattens and logs nested configurations.
        spec = json.dumps(trial.to_json())
        experiment = {**self._experiment.spec, "config": {**self._common, "spec": spec}}
        experiment["resources_per_trial"] = PlacementGroupFactory([_bundle(trial)])
        return _create_trial_from_spec(
            experiment, self._tune_parser, evaluated_params={}, experiment_tag="", trial_id=trial.trial_id
        )

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Passes progress on. Tune calls a trial started when it asks for a worker; the first report is."""
        if trial_id not in self.started:
            self.started.add(trial_id)
            self._court.started(self._board.trials[trial_id])
        if result.get("epoch"):
            self._listener.epoch(self._board.trials[trial_id], result["epoch"], result["best_loss"])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Lets the records decide what became of a trial."""
        self._court.settle(
            self._board.trials[trial_id], "its worker died without a word (killed, or out of memory)"
        )

    def is_finished(self) -> bool:
        """Returns whether nothing is left to hand out, now or later."""
        return self._board.exhausted

    def save_to_dir(self, dirpath: str, session_str: str) -> None:
        """Saves nothing: the records are the state."""

    def has_checkpoint(self, dirpath: str) -> bool:
        """Returns False: a fresh run starts from the records."""
        return False


def _work(config: dict[str, Any]) -> None:
    """One trial in a worker process. A hopeless failure ends it without an error: Tune is not to retry it."""
    # Imported here: the driver needs no torch.
    from xferlab.trial.run import Hooks, run_trial

    spec = TrialSpec.from_json(json.loads(config["spec"]))
    ended = threading.Event()
    # Tune ends the process of a trial that it stops without waiting for this thread.
    atexit.register(ended.wait, SAVE_WITHIN_S)
    reporter = _Reporter()
    reporter.stopped()  # the first report tells the driver that the trial really runs
    hooks = Hooks(stop=reporter.stopped, on_epoch=reporter.note)
    try:
        run_trial(spec, Store.open(config["location"]), cache_dir=Path(config["cache_dir"]), hooks=hooks)
    except HOPELESS:
        # Stored as failure.json; the driver reads it.
        return
    except InterruptedTrialError:
        # What Tune raises in a function that it stops, and expects to see.
        raise SystemExit(0) from None
    finally:
        ended.set()
        atexit.unregister(ended.wait)


class _Reporter:
    """Reports at most once a second, since each report waits for the driver; that is where Tune says stop."""

    def __init__(self) -> None:
        self._epoch, self._best = 0, float("inf")
        self._reported_at = float("-inf")
        self._stopped = False

    def note(self, result: EpochResult, best_loss: float) -> None:
        self._epoch, self._best = result.epoch, best_loss

    def stopped(self) -> bool:
        if not self._stopped and time.monotonic() - self._reported_at >= REPORT_EVERY_S:
            self._reported_at = time.monotonic()
            try:
                tune.report({"epoch": self._epoch, "best_loss": self._best})
            except SystemExit:
                self._stopped = True
        return self._stopped


def _release_interrupted(board: Board, store: Store, started: set[str]) -> None:
    """Makes trials ready again that were stopped; gives their workers time to save a checkpoint."""
    running = [one for one, state in board.states.items() if state is State.RUNNING]
    deadline = time.monotonic() + SAVE_WITHIN_S
    for trial_id in running:
        while trial_id in started and _is_open(store, trial_id) and time.monotonic() < deadline:
            time.sleep(0.05)
        board.put_back(trial_id)


def _is_open(store: Store, trial_id: str) -> bool:
    attempts = reader.read_run(store, trial_id).get("attempts", [])
    return bool(attempts) and attempts[-1]["outcome"] == "running"


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Lets Tune end gracefully on SIGTERM, too; by itself it listens to Ctrl-C only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Tune's tables and advice off the terminal: the live view tells what matters."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.air")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OSError as error:
        raise StorageError(f"Ray Tune cannot use its scratch folder: {error}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
