"""What a worker process of Ray does with a trial that its driver hands it, and what it tells the driver.

The mixins of a function and its session are private to Ray.
"""

from __future__ import annotations

import atexit
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.train._internal.session import get_session

from xferlab.errors import InterruptedTrialError, MachineError
from xferlab.plan.spec import TrialSpec
from xferlab.records.schema import EpochResult
from xferlab.records.store import Store
from xferlab.schedule import machine
from xferlab.schedule.nodes import Mark
from xferlab.schedule.ray_session import Access
from xferlab.trial.failure import HOPELESS, LACKING

REPORT_EVERY_S = 1.0
SAVE_WITHIN_S = 4.0
"""Time that a stopped trial has for its checkpoint; Tune kills after 5 s what it stops."""


class Reporter:
    """What a trial in a worker tells the driver. Each report waits for it, and there Tune says stop.

    Attributes:
        stopping: Whether the trial is to stop.
        memory_peak_gib: Measures the peak of the process.
    """

    def __init__(self, node: str) -> None:
        """Takes the id of the node that the trial runs on."""
        self.stopping = False
        self.memory_peak_gib: Callable[[], float | None] = lambda: None
        self._node = node
        self._epoch = 0
        self._best_score: float | None = None
        self._reported_at = float("-inf")

    def note(self, epoch: int, best_score: float | None) -> None:
        """Takes how far the trial is, for the next report."""
        self._epoch, self._best_score = epoch, best_score

    def report(self, **facts: Any) -> None:
        """Reports at once, with more facts, unless the trial is to stop."""
        if self.stopping:
            return
        self._reported_at = time.monotonic()
        progress = {"epoch": self._epoch, "best_score": self._best_score, "node": self._node}
        try:
            tune.report({**progress, "memory_peak_gib": self.memory_peak_gib(), **facts})
        except SystemExit:
            self.stopping = True

    def stopped(self) -> bool:
        """Returns whether the trial is to stop; reports at most once a second."""
        if time.monotonic() - self._reported_at >= REPORT_EVERY_S:
            self.report()
        return self.stopping


Train = Callable[[TrialSpec, Store, Path, Reporter], None]
"""Runs a trial in a worker: what it is, the storage, the cache folder, and whom it tells of its progress."""


def train_trial(trial: TrialSpec, store: Store, cache_dir: Path, reporter: Reporter) -> None:
    """Runs a trial of a study."""
    from xferlab.trial.run import Hooks, run_trial  # the driver needs no torch

    def on_epoch(result: EpochResult, best_score: float | None) -> None:
        reporter.note(result.epoch, best_score)

    hooks = Hooks(stop=reporter.stopped, on_epoch=on_epoch, on_resume=on_epoch)
    run_trial(trial, store, cache_dir=cache_dir, hooks=hooks)


class _SavesFirst:
    """Mixed into Tune's worker: one that is told to stop answers when its trial has saved.

    With the answer the process may end, and Ray kills it 0.2 s later (since 2.60).
    """

    def cleanup(self) -> None:
        """Tells the trial to stop and waits for it."""
        if (session := get_session()) is not None:
            session.finish(timeout=SAVE_WITHIN_S)
        super().cleanup()  # type: ignore[misc]


def work(config: dict[str, Any], access: Access, train: Train, mark: Mark | None = None) -> None:
    """One trial in a worker process. A hopeless failure ends it without an error, and the process stays.

    Any other error makes Tune end the process: none that met one goes on to another trial.
    """
    machine.prepare()  # of another node, which the command line did not see
    context = ray.get_runtime_context()
    reporter = Reporter(context.get_node_id())
    reporter.report()  # tells the driver that the trial really runs, and where, whatever fails from here on
    if mark is not None and (problem := mark.problem_here()):
        raise MachineError(f"this node cannot work on the storage: {problem}")
    from xferlab.trial.environment import host_memory_peak_gib, limit_gpu_memory  # the driver needs no torch

    reporter.memory_peak_gib = host_memory_peak_gib
    limit_gpu_memory(context.get_assigned_resources().get("GPU", 0.0))
    trial = TrialSpec.from_json(json.loads(config["spec"]))
    ended, leaving = threading.Event(), threading.Event()

    def leave() -> None:
        # Tune, or a machine that shuts down (SIGTERM), ends the process without waiting for this thread.
        leaving.set()
        reporter.stopping = True
        ended.wait(SAVE_WITHIN_S)

    atexit.register(leave)
    try:
        if not reporter.stopping:
            train(trial, access.open(), Path(config["cache_dir"]), reporter)
    except HOPELESS + LACKING:
        pass  # stored as failure.json; the driver reads it
    except InterruptedTrialError:
        if leaving.is_set():  # a function that ends would count as done; here the process ends
            ended.set()
            threading.Event().wait()
    finally:
        ended.set()
        atexit.unregister(leave)
    if reporter.stopping:
        raise SystemExit(0)  # what Tune raises in a function that it stops, and expects to see


work.__mixins__ = (_SavesFirst,)  # type: ignore[attr-defined]
