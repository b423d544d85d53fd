"""What an executor makes of an attempt: the record decides, not the message that a worker sends.

An executor is a loop around two parts that know nothing of it, `TrialGraph` (which trial may start) and
`RetryPolicy` (what becomes of one that has ended):

    while (trial := policy.take()) is not None and policy.repeated is None:
        policy.started(trial)
        ...                                  # run_trial(trial, ...), anywhere, until policy.stops(trial_id)
        policy.ended(trial, reported)        # complete, cancelled, ready again, or failed in the graph

An executor on several nodes says where an attempt was, and takes the next one elsewhere (`failed_on`).

A trial that was stopped rather than ended is given back with `graph.put_back`.
"""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from xferlab.plan.spec import TrialSpec
from xferlab.records import codec, complete, layout, logs, reader
from xferlab.records.store import Store
from xferlab.schedule.cancelling import Cancelling, Inbox
from xferlab.schedule.graph import Listener, State, TrialGraph
from xferlab.trial.failure import Failure, Kind, lost, signature

SAME_ERRORS = 3
"""So many first trials that end with one error stop the study."""
NODE_LOSSES = 10
"""So many losses of its node in a row cost a trial nothing, though it gets no further between them."""
NODES_TRIED = 10
"""On so many nodes at most a trial meets what a machine may lack."""


@dataclass(frozen=True)
class Ending:
    """How an executor left a graph.

    Attributes:
        signal: What asked it to end early; None if nothing did.
        repeated: The error that the first trials have in common, which stopped the study; else None.
    """

    signal: signal.Signals | None = None
    repeated: Failure | None = None


@dataclass
class _Tries:
    """What a run knows of the attempts at a trial.

    Attributes:
        failures: How many failed, without those that do not count.
        alone: The failure for which the trial runs beside no other.
        node_losses: Losses of its node since its latest checkpoint.
        checkpoint: The latest when its node was lost.
        nodes: On which an attempt failed.
    """

    failures: int = 0
    alone: Failure | None = None
    node_losses: int = 0
    checkpoint: str = ""
    nodes: frozenset[str] = frozenset()


class RetryPolicy:
    """Moves a trial in the graph by what its records say, and tells the listener. The one rule of retries.

    After an attempt that failed, a trial is tried again, unless

    - a parent's files turned out to be damaged: then the parent is trained again first,
    - its failure is hopeless (the same spec meets it again),
    - its machine lacks something, and there is no other node that has not failed it, or
    - it has failed more than `retries` times in this run.

    A trial that ran out of memory beside others gets one attempt alone that does not count; from then on
    `alone` is true of it. The loss of its node does not count either, unless it came more than `NODE_LOSSES`
    times without a new checkpoint, nor what a machine lacks. If the first three trials of a run that end fail
    with one error (type and message without digits and names), `repeated` is that failure, and the executor
    is to stop: the rest stays open. Lost workers and nodes do not count as one error: they have the machine
    in common, not the study.
    """

    def __init__(
        self,
        graph: TrialGraph,
        store: Store,
        listener: Listener,
        *,
        retries: int,
        study: str = "study",
        is_complete: Callable[[Store, TrialSpec], bool] | None = None,
        inbox: Inbox | None = None,
    ):
        """Takes the graph of a run, the storage of its records, the listener, and the study's fields.

        `is_complete` says whether a trial has all its records; None for trials of studies. `inbox` holds
        requests to cancel trials; None for a run whose trials cannot be cancelled. An executor on several
        nodes sets `has_other`: whether one that is not among some could run a trial.
        """
        self.has_other: Callable[[TrialSpec, frozenset[str]], bool] = lambda trial, nodes: False
        self.graph, self.store, self.listener = graph, store, listener
        self.retries, self.study = retries, study
        self.repeated: Failure | None = None
        self._is_complete = is_complete or complete.is_complete
        self._tries: defaultdict[str, _Tries] = defaultdict(_Tries)
        self._reopened: set[str] = set()
        self._first: list[str] | None = []
        self._cancelling = Cancelling(graph, listener, inbox) if inbox else None

    def take(self) -> TrialSpec | None:
        """Returns the next trial that may start, now running; None if none may at the moment."""
        self.stops()
        return self.graph.take()

    def stops(self) -> Mapping[str, str]:
        """Returns why trials that run are to be stopped, by id: somebody cancels them."""
        if self._cancelling is None:
            return {}
        self._cancelling.look()
        return self._cancelling.stopping

    def started(self, trial: TrialSpec) -> None:
        """Tells that a trial runs."""
        self.listener.changed(trial, State.RUNNING)

    def alone(self, trial_id: str) -> Failure | None:
        """Returns the failure for which a trial is to run beside no other; None where it may share."""
        return self._tries[trial_id].alone

    def failed_on(self, trial: TrialSpec) -> frozenset[str]:
        """Returns the nodes that a trial is to be kept from: those that failed it, if there are others."""
        nodes = self._tries[trial.trial_id].nodes
        return nodes if nodes and self.has_other(trial, nodes) else frozenset()

    def ended(self, trial: TrialSpec, reported: Failure | None = None, *, node: str = "") -> None:
        """Decides what becomes of a trial whose attempt ended: moves it in the graph and tells the listener.

        Args:
            trial: A running trial.
            reported: What the executor knows of the failure, for a worker that could not store its own.
            node: Where it ran; empty if that is not known, has left, or is nothing to choose.

        Raises:
            StorageError: The records cannot be read or written.
        """
        if self._is_complete(self.store, trial):
            self.graph.complete(trial.trial_id)
            self._tries.pop(trial.trial_id, None)
            self._first = None
            if self._cancelling:
                self._cancelling.stopping.pop(trial.trial_id, None)
            self.listener.changed(trial, State.COMPLETE)
            return
        if self._cancelling and self._cancelling.ended(trial):
            return
        failure = self._failure(trial, reported)
        reason = f"{failure['type']}: {failure['message']}"
        note = partial(logs.note, self.store, trial.trial_id)
        if self._lacks_parents(trial):
            decision = f"{reason}; it waits for that"
            note(decision, level="WARNING")
            self.listener.changed(trial, State.WAITING, decision)
            self.graph.wait(trial.trial_id)
        elif self._worth_another(trial, failure, node):
            where = f", not on {failure['host']}" if node in self.failed_on(trial) else ""
            decision = f"{reason}; it is tried again{where}"
            note(decision, level="WARNING")
            self.graph.put_back(trial.trial_id)
            self.listener.changed(trial, State.READY, decision)
        else:
            note(f"{reason}; this run does not try it again", level="ERROR")
            self._fail(trial, reason)
            self._compare(trial, failure)

    def _lacks_parents(self, trial: TrialSpec) -> bool:
        """Whether a trial has to wait for parents that are complete no more; these are opened again, once.

        A child that loads altered weights finds that out, and sets them aside.
        """
        states = self.graph.states
        for parent in trial.parents:
            spec = self.graph.trials[parent]
            if states[parent] is not State.COMPLETE or parent in self._reopened:
                continue
            if self._is_complete(self.store, spec):
                continue
            self._reopened.add(parent)
            self.listener.changed(spec, State.READY, "its files are damaged; it is trained again")
            self.graph.reopen(parent)
        return any(states[parent] in (State.WAITING, State.READY, State.RUNNING) for parent in trial.parents)

    def _worth_another(self, trial: TrialSpec, failure: Failure, node: str) -> bool:
        tries = self._tries[trial.trial_id]
        if failure["kind"] == Kind.HOPELESS:
            return False
        if failure["kind"] == Kind.MEMORY and tries.alone is None:
            tries.alone = failure
            return True
        known, tries.nodes = tries.nodes, tries.nodes | ({node} if node else set())
        if failure["kind"] == Kind.MACHINE:
            return known != tries.nodes and len(tries.nodes) < NODES_TRIED and bool(self.failed_on(trial))
        if failure["kind"] == Kind.NODE:
            latest = max(self.store.list(layout.TrialFiles(trial.trial_id).checkpoint), default="")
            tries.node_losses = tries.node_losses + 1 if latest == tries.checkpoint else 1
            tries.checkpoint = latest
            if tries.node_losses <= NODE_LOSSES:
                return True
        tries.failures += 1
        return tries.failures <= self.retries

    def _fail(self, trial: TrialSpec, reason: str) -> None:
        blocked = self.graph.fail(trial.trial_id)
        self.listener.changed(trial, State.FAILED, reason)
        for descendant in blocked:
            self.listener.changed(self.graph.trials[descendant], State.BLOCKED, f"{trial.name} failed")

    def _compare(self, trial: TrialSpec, failure: Failure) -> None:
        if self._first is None:
            return
        self._first.append(signature(failure, trial.name, trial.stage))
        if failure["kind"] in (Kind.LOST, Kind.NODE) or len(set(self._first)) > 1:
            self._first = None
        elif len(self._first) == SAME_ERRORS:
            self.repeated = failure

    def _failure(self, trial: TrialSpec, reported: Failure | None) -> Failure:
        """The failure of this attempt: what the worker stored of it, else what the executor reports."""
        stored = reader.read_failure(self.store, trial.trial_id)
        if stored is not None and (reported is None or _process(stored) == _process(reported)):
            return stored
        failure = reported or lost("its worker ended without a record")
        attempts = reader.read_run(self.store, trial.trial_id).get("attempts", [])
        host = failure["host"] if failure["pid"] or not attempts else attempts[-1]["host"]
        failure = {**failure, "host": host}
        codec.write_json(self.store, layout.TrialFiles(trial.trial_id).failure, failure)
        return failure


def _process(failure: Failure) -> tuple[str | None, int | None]:
    return failure.get("host"), failure.get("pid")
