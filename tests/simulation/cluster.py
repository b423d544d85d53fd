"""A cluster on a virtual clock, with a real trial graph, retry policy and records.

It has drivers, workers that keep the contract, and a storage behind a real pyarrow filesystem that may fail.
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow.fs as pafs

from tests.records.faults import Faults, faulty
from tests.simulation.clock import Clock, Killed, Process, current
from tests.simulation.worker import work
from xferlab.errors import MachineError, StorageError, TrainingError
from xferlab.plan.plan import Plan
from xferlab.plan.spec import TrialSpec
from xferlab.records import cancellations
from xferlab.records.cancellations import Request
from xferlab.records.complete import complete_trials, is_complete
from xferlab.records.layout import StudyFiles
from xferlab.records.store import Store
from xferlab.schedule.cancelling import Inbox, names_in_run
from xferlab.schedule.graph import Listener, State, TrialGraph
from xferlab.schedule.retry_policy import RetryPolicy
from xferlab.schedule.study import publish
from xferlab.trial.failure import Failure, Kind, described, lost


@dataclass
class Weather:
    """How often things go wrong, and for how long they may; probabilities are per occasion.

    Attributes:
        storage: An operation on the storage fails.
        answer_lost: A failed writing operation has taken effect nevertheless.
        worker_death: A worker is killed at an operation.
        worker_error: A worker raises at the end of an epoch.
        node_death: All workers of a node are killed, at an operation of one of them.
        preemption: So, and the node is away for a while.
        driver_death: The driver is killed at an operation.
        freeze: A process stands still for long at an operation (SIGSTOP, a page that is swapped).
        suspected: The driver takes a worker for lost that goes on.
        duplicate: A message arrives twice.
        mute: A message says that a worker ended, and not how.
        orphans: A worker goes on for a while when its driver has died.
        cancel: Somebody asks a driver to cancel some trials.
        hopeless: Names of stages whose trials raise what the same spec meets again.
    """

    storage: float = 0.0
    answer_lost: float = 0.5
    worker_death: float = 0.0
    worker_error: float = 0.0
    node_death: float = 0.0
    preemption: float = 0.0
    driver_death: float = 0.0
    freeze: float = 0.0
    suspected: float = 0.0
    duplicate: float = 0.0
    mute: float = 0.0
    orphans: float = 0.5
    cancel: float = 0.0
    hopeless: frozenset[str] = frozenset()

    @staticmethod
    def drawn(draws: random.Random, stages: Sequence[str]) -> Weather:
        """Returns weather of some kinds, each fair or foul."""

        def often(most: float) -> float:
            return draws.choice((0.0, most / 8, most))

        return Weather(
            storage=often(0.02), worker_death=often(0.02), worker_error=often(0.05), node_death=often(0.005),
            driver_death=often(0.02), freeze=often(0.02), suspected=often(0.2), duplicate=often(0.3),
            mute=often(0.3), preemption=often(0.005), cancel=often(0.5),
            hopeless=frozenset(draws.sample(stages, 1)) if draws.random() < 0.1 else frozenset(),
        )  # fmt: skip


@dataclass
class Log:
    """What happened, for the invariants.

    Attributes:
        trained: (trial id, attempt, time of its first look, time at which training began).
        completed: Trial id -> time at which its record was first written.
        starts: Trial id -> digests of the weights that attempts started from.
        counted: Completions of each trial in each run of a driver.
        asked: Names of trials that each driver was asked to cancel.
        runs: How each driver's run ended: its states, or None if it was killed or gave up.
        text: One line an event, to read a failing seed by.
    """

    trained: list[tuple[str, float]] = field(default_factory=list)
    completed: dict[str, float] = field(default_factory=dict)
    starts: dict[str, set[str]] = field(default_factory=dict)
    counted: list[Counter[str]] = field(default_factory=list)
    asked: list[set[str]] = field(default_factory=list)
    runs: list[dict[str, State] | None] = field(default_factory=list)
    text: list[str] = field(default_factory=list)


class Cluster:
    """Nodes with slots, and the storage that they share.

    Attributes:
        log: What happened.
        store: The storage as it is, without faults.
        seen: The storage as processes see it.
    """

    def __init__(
        self, plan: Plan, seed: int, weather: Weather, *, nodes: int = 2, slots: int = 2, lacking: int = 0
    ):
        self.plan, self.weather, self.draws = plan, weather, random.Random(seed)
        self.clock, self.log = Clock(), Log()
        self.store = Store("memory", pafs._MockFileSystem(), "lab")
        self.seen = faulty(self.store, _Wire(self))
        self._nodes, self._slots, self._lacking, self._drivers = nodes, slots, lacking, list[Driver]()
        self._with_node: set[Process] = set()

    def disturb(self, path: str, effect: Callable[[], Any], *, writes: bool) -> Any:
        """One operation of a process on the storage: it takes time, and the weather strikes."""
        process = current()
        if process is None:
            return effect()
        if process.killed:
            raise Killed
        draws, weather = self.draws, self.weather
        self.clock.pause(draws.expovariate(20.0))
        if draws.random() < weather.freeze:
            process.frozen_until = self.clock.now + draws.uniform(5.0, 200.0)
            self.clock.pause(0.0)
        self._strike(process)
        if draws.random() < weather.storage:
            if writes and draws.random() < weather.answer_lost:
                effect()
            raise OSError(draws.choice((errno.EIO, errno.ENOSPC, errno.EACCES)), "injected", path)
        result = effect()
        self._strike(process)  # the effect is there, and the process does not learn it
        return result

    def _strike(self, process: Process) -> None:
        draws, weather = self.draws, self.weather
        driver = next((one for one in self._drivers if one.process is process), None)
        if driver is not None:
            doomed = [process] if draws.random() < weather.driver_death else []
        elif draws.random() < weather.node_death:
            doomed = self._node_goes(process, away_s=0.0)
        elif draws.random() < weather.preemption:
            doomed = self._node_goes(process, away_s=draws.uniform(10.0, 100.0))
        else:
            doomed = [process] if draws.random() < weather.worker_death else []
        for one in doomed:
            self.note(f"{one.name} is killed")
            one.kill()
        if doomed:
            raise Killed

    def _node_goes(self, process: Process, *, away_s: float) -> list[Process]:
        """The node of a worker is lost for a while; returns all that ran on it."""
        nodes = [node for driver in self._drivers for node in driver.nodes]
        node = next(node for node in nodes if process in node.processes)
        self._with_node.update(node.processes)
        node.away_until = self.clock.now + away_s
        return node.processes

    def note(self, text: str) -> None:
        """Adds a line to the log."""
        self.log.text.append(f"{self.clock.now:9.2f} {text}")

    def run_driver(self, weather: Weather | None = None) -> dict[str, State] | None:
        """Runs a driver until nothing is left to happen; returns the states that it ended with, if it did."""
        self.weather = weather or self.weather
        self._start_driver()
        self.clock.run()
        return self.log.runs[-1]

    def run_two_drivers(self) -> None:
        """Two drivers at once: what a lease prevents, unless its holder stood still for too long."""
        self._start_driver()
        self._start_driver(after=self.draws.uniform(0.0, 30.0))
        self.clock.run()

    def _start_driver(self, *, after: float = 0.0) -> None:
        self.log.runs.append(None)
        self.log.counted.append(Counter())
        self.log.asked.append(set())
        nodes = [Node(self._slots, f"n{k}", lacks=k < self._lacking) for k in range(self._nodes)]
        self._drivers.append(Driver(self, number=len(self.log.runs), nodes=nodes, after=after))

    def worker(self, node: Node, spec: TrialSpec, ended: Callable[[Failure | None], None]) -> Process:
        """Starts an attempt at a trial on a node; `ended` is called as it ends, with what is known."""

        told: list[Failure] = []

        def body() -> None:
            try:
                if node.lacks:
                    raise MachineError("no images there")
                work(self, self.seen, spec)
            except (StorageError, TrainingError, MachineError) as error:
                told.append(described(error, epoch=0))

        def last() -> None:
            if process in self._with_node:
                ended(lost("its node was lost", kind=Kind.NODE))
            else:
                ended(lost("killed") if process.killed else told[0] if told else None)

        after = self.draws.expovariate(1.0)
        process = self.clock.start(f"worker of {spec.name}", body, after=after, last=last)
        node.processes.append(process)
        return process


@dataclass
class Node:
    """A machine of a driver's cluster.

    Attributes:
        slots: How many workers run on it at once.
        name: Its name.
        lacks: Whether every trial fails on it, for what is not there.
        processes: The latest of them; dead ones among them hold no slot.
        away_until: When it comes back after a preemption.
    """

    slots: int
    name: str
    lacks: bool = False
    processes: list[Process] = field(default_factory=list)
    away_until: float = 0.0

    def free(self, now: float) -> bool:
        """Whether another worker may start."""
        self.processes = [one for one in self.processes if one.alive]
        return now >= self.away_until and len(self.processes) < self.slots


class _Wire(Faults):
    """Every operation of a process goes through the cluster."""

    def __init__(self, cluster: Cluster):
        super().__init__()
        self._cluster = cluster

    def meet(self, operation: str, path: str, effect: Callable[[], Any], *, writes: bool = False) -> Any:
        return self._cluster.disturb(path, effect, writes=writes)


class Driver:
    """One run of the study: the real graph and retry policy, and a loop as the executors have it."""

    def __init__(self, cluster: Cluster, number: int, *, nodes: list[Node], after: float):
        self.cluster, self.number, self.nodes = cluster, number, nodes
        self._inbox: list[tuple[int, Failure | None]] = []
        self._waiting: Process | None = None
        self._running: dict[int, tuple[TrialSpec, Process]] = {}
        self._ran_on: dict[int, str] = {}
        self._held: list[TrialSpec] = []
        self._attempts = 0
        self._token, self._study = f"driver{number}", cluster.plan.loaded.base.study
        self.process = cluster.clock.start(f"driver {number}", self.drive, after=after)

    def drive(self) -> None:
        """Runs what may run, as `run_study` with an executor does."""
        cluster = self.cluster
        try:
            states = self._drive()
        except StorageError as error:
            cluster.note(f"driver {self.number} gives up: {error}")
        else:
            cluster.log.runs[self.number - 1] = states
            cluster.note(f"driver {self.number} ends: {dict(Counter(states.values()))}")
        finally:
            self._leave()

    def _drive(self) -> dict[str, State]:
        cluster, plan = self.cluster, self.cluster.plan
        publish(plan, cluster.seen)
        graph = TrialGraph(
            plan.trials, complete=complete_trials(cluster.seen, plan.loaded.base.study, plan.trials)
        )
        cancellations.forget_earlier(cluster.seen, self._study, self._token)
        names = names_in_run(plan, plan.trials)
        inbox = Inbox(cluster.seen, self._study, run=self._token, names=names)
        policy = RetryPolicy(graph, cluster.seen, _Counting(cluster, self.number), retries=2, inbox=inbox)
        policy.has_other = self._has_other
        while cluster.draws.random() < cluster.weather.cancel:
            cluster.clock.at(cluster.draws.uniform(0.0, 100.0), self._ask)
        while True:
            inbox.look()
            for trial, process in self._running.values():
                if trial.trial_id in policy.stops():
                    process.kill()
            for trial in [trial for trial in self._held if trial.trial_id in policy.stops()]:
                self._held.remove(trial)
                policy.ended(trial)
            self._fill(policy)
            if not self._running:
                if policy.repeated is not None or (graph.exhausted and not self._held):
                    for trial in self._held:
                        graph.put_back(trial.trial_id)
                    return dict(graph.states)
                cluster.clock.pause(1.0)  # workers that were given up hold all slots, or a node is away
                continue
            while not self._inbox:
                self._waiting = current()
                cluster.clock.pause(None)
            attempt, told = self._inbox.pop(0)
            if attempt in self._running:  # else a duplicate, or of an attempt that was given up
                trial, _ = self._running.pop(attempt)
                policy.ended(trial, told, node=self._ran_on[attempt])

    def _ask(self) -> None:
        """Somebody asks to cancel some trials, or all of an arm."""
        cluster = self.cluster
        names = sorted(cluster.plan.names)
        chosen = cluster.draws.sample(names, cluster.draws.randint(1, min(3, len(names))))
        if cluster.draws.random() < 0.5:
            arm = chosen[0].partition("/")[0]
            chosen = [name for name in names if name.startswith(f"{arm}/")]
        path = f"{StudyFiles(self._study).requests}/{self._token}/{len(cluster.log.text):06d}.json"
        cancellations.write_request(cluster.seen, path, Request(tuple(chosen), "", "host", "now"))
        self._deliver(0, None, after=0.0)  # a look, now
        cluster.log.asked[self.number - 1].update(chosen)
        cluster.note(f"driver {self.number} is asked to cancel {', '.join(chosen)}")

    def _has_other(self, trial: TrialSpec, failed: frozenset[str]) -> bool:
        now = self.cluster.clock.now
        return any(node.name not in failed and now >= node.away_until for node in self.nodes)

    def _fill(self, policy: RetryPolicy) -> None:
        """Starts what may run; a trial that is kept from all free nodes waits for another, as in Tune."""
        waiting, self._held = self._held, []
        while policy.repeated is None and (free := self._free()):
            trial = waiting.pop(0) if waiting else policy.take()
            if trial is None:
                break
            fitting = [node for node in free if node.name not in policy.failed_on(trial)]
            if fitting:
                self._start(trial, self.cluster.draws.choice(fitting), policy)
            else:
                self._held.append(trial)
        self._held += waiting

    def _free(self) -> list[Node]:
        return [node for node in self.nodes if node.free(self.cluster.clock.now)]

    def _start(self, trial: TrialSpec, node: Node, policy: RetryPolicy) -> None:
        self._attempts += 1
        attempt = self._attempts
        policy.started(trial)
        process = self.cluster.worker(node, trial, partial(self._send, attempt))
        self._running[attempt], self._ran_on[attempt] = (trial, process), node.name
        if self.cluster.draws.random() < self.cluster.weather.suspected:
            wait_s = self.cluster.draws.uniform(1.0, 60.0)
            self._deliver(attempt, lost("no word for long"), after=wait_s)

    def _send(self, attempt: int, told: Failure | None) -> None:
        """A message takes its time; now and then it comes twice, and of a killed worker it comes late."""
        draws = self.cluster.draws
        times = 2 if draws.random() < self.cluster.weather.duplicate else 1
        told = None if draws.random() < self.cluster.weather.mute else told
        for _ in range(times):
            self._deliver(attempt, told, after=draws.expovariate(0.5))

    def _deliver(self, attempt: int, told: Failure | None, *, after: float) -> None:
        def arrive() -> None:
            self._inbox.append((attempt, told))
            if self._waiting is not None:
                process, self._waiting = self._waiting, None
                self.cluster.clock.wake(process, after=0.0)

        self.cluster.clock.at(after, arrive)

    def _leave(self) -> None:
        """Workers end with their driver, some of them later."""
        for _, process in self._running.values():
            if self.cluster.draws.random() < self.cluster.weather.orphans:
                self.cluster.clock.at(self.cluster.draws.uniform(0.0, 20.0), process.kill)
            else:
                process.kill()


class _Counting(Listener):
    """Listens to a driver."""

    def __init__(self, cluster: Cluster, number: int):
        self._cluster, self._counted = cluster, cluster.log.counted[number - 1]
        self._number = number

    def changed(self, trial: TrialSpec, state: State, reason: str = "") -> None:
        self._cluster.note(f"driver {self._number}: {trial.name} {state.value} {reason[:80]}")
        if state is State.COMPLETE:
            assert is_complete(self._cluster.store, trial), "called complete without a record"
            self._counted[trial.trial_id] += 1
