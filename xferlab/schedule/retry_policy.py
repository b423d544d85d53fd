"""What an executor makes of an attempt: the record decides, not the message that a worker sends.

An executor is a loop around two parts that know nothing of it, `TrialGraph` (which trial may start) and
`RetryPolicy` (what became of one):

    while (trial := graph.take()) is not None and policy.repeated is None:
        policy.started(trial)
        ...                                  # run_trial(trial, ...), anywhere
        policy.ended(trial, reported)        # complete, again (in the graph already), or failed

A trial that was stopped rather than ended is given back with `graph.put_back`.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from xferlab.errors import StorageError
from xferlab.plan.spec import TrialSpec
from xferlab.records import codec, layout, reader
from xferlab.records.complete import is_complete
from xferlab.records.store import Store
from xferlab.schedule.graph import State, TrialGraph
from xferlab.schedule.listener import Listener
from xferlab.trial.failure import Failure, Kind, lost, signature

SAME_ERRORS = 3
"""So many first trials that end with one error stop the study."""
NODE_LOSSES = 10
"""So many losses of its node in a row cost a trial nothing, though it gets no further between them."""


class Decision(StrEnum):
    """What becomes of a trial whose attempt has ended."""

    COMPLETE = "complete"
    AGAIN = "again"
    FAILED = "failed"


@dataclass(frozen=True)
class Ending:
    """How an executor left a graph.

    Attributes:
        signal: What asked it to end early; None if nothing did.
        repeated: The error that the first trials have in common, which stopped the study; else None.
    """

    signal: signal.Signals | None = None
    repeated: Failure | None = None


class RetryPolicy:
    """Moves a trial in the graph by what its records say, and tells the listener. The one rule of retries.

    After an attempt that failed, a trial is tried again, unless

    - a parent's files turned out to be damaged: then the parent is made anew first,
    - its failure is hopeless (the same spec meets it again), or
    - it has failed more than `retries` times in this run.

    A trial that ran out of memory beside others gets one attempt alone that does not count; from then on
    `alone` is true of it. The loss of its node does not count either, unless it came more than `NODE_LOSSES`
    times without a new checkpoint. If the first three trials of a run that end fail with one error (type and
    message without digits and names), `repeated` is that failure, and the executor is to stop: the rest stays
    open.
    Lost workers and nodes do not count as one error: what they have in common is the machine, not the study.
    """

    def __init__(
        self, graph: TrialGraph, store: Store, listener: Listener, *, retries: int, study: str = "study"
    ):
        """Takes the graph of a run, the storage of its records, who watches, and the study's own words."""
        self.graph, self.store, self.listener = graph, store, listener
        self.retries, self.study = retries, study
        self.repeated: Failure | None = None
        self._failures: Counter[str] = Counter()
        self._alone: dict[str, Failure] = {}
        self._node_losses: dict[str, tuple[str, int]] = {}
        self._renewed: set[str] = set()
        self._first: list[str] | None = []

    def started(self, trial: TrialSpec) -> None:
        """Tells that a trial runs."""
        self.listener.changed(trial, State.RUNNING)

    def alone(self, trial_id: str) -> Failure | None:
        """Returns the failure for which a trial is to run beside no other; None where it may share."""
        return self._alone.get(trial_id)

    def ended(self, trial: TrialSpec, told: Failure | None = None) -> Decision:
        """Decides what becomes of a trial whose attempt ended, and moves it in the graph.

        Args:
            trial: A running trial.
            told: What the executor knows of the failure, for a worker that could not write it down.

        Raises:
            StorageError: The records cannot be read or written.
        """
        trial_id = trial.trial_id
        if is_complete(self.store, trial):
            self.graph.complete(trial_id)
            self._forget(trial_id)
            self._first = None
            self.listener.changed(trial, State.COMPLETE)
            return Decision.COMPLETE
        failure = self._failure(trial, told)
        if self._lacks_parents(trial):
            self.listener.changed(trial, State.WAITING, f"{_said(failure)}; it waits for that")
            self.graph.wait(trial_id)
            return Decision.AGAIN
        if self._worth_another(trial_id, failure):
            self.graph.put_back(trial_id)
            self.listener.changed(trial, State.READY, f"{_said(failure)}; it is tried again")
            return Decision.AGAIN
        self._fail(trial, failure)
        return Decision.FAILED

    def _lacks_parents(self, trial: TrialSpec) -> bool:
        """Whether a trial has to wait for parents that are complete no more; these are opened again, once.

        Altered weights are found by the child that loads them, which sets them aside.
        """
        states = self.graph.states
        for parent in trial.parents:
            spec = self.graph.trials[parent]
            known = states[parent] is not State.COMPLETE or parent in self._renewed
            if known or is_complete(self.store, spec):
                continue
            self._renewed.add(parent)
            self.listener.changed(spec, State.READY, "its files are damaged; it is made anew")
            self.graph.reopen(parent)
        return any(states[one] in (State.WAITING, State.READY, State.RUNNING) for one in trial.parents)

    def _worth_another(self, trial_id: str, failure: Failure) -> bool:
        if failure["kind"] == Kind.HOPELESS:
            return False
        if failure["kind"] == Kind.MEMORY and trial_id not in self._alone:
            self._alone[trial_id] = failure
            return True
        if failure["kind"] == Kind.NODE and self._excused(trial_id):
            return True
        self._failures[trial_id] += 1
        return self._failures[trial_id] <= self.retries

    def _excused(self, trial_id: str) -> bool:
        """Whether the loss of its node costs a trial nothing: it gets further, or was not lost often."""
        latest = max(self.store.list(layout.TrialFiles(trial_id).checkpoint), default="")
        before, losses = self._node_losses.get(trial_id, ("", 0))
        losses = losses + 1 if latest == before else 1
        self._node_losses[trial_id] = (latest, losses)
        return losses <= NODE_LOSSES

    def _fail(self, trial: TrialSpec, failure: Failure) -> None:
        before = dict(self.graph.states)
        self.graph.fail(trial.trial_id)
        self._forget(trial.trial_id)
        self.listener.changed(trial, State.FAILED, _said(failure))
        for other, state in self.graph.states.items():
            if state is State.BLOCKED and before[other] is not State.BLOCKED:
                self.listener.changed(self.graph.trials[other], State.BLOCKED, f"{trial.name} failed")
        self._compare(trial, failure)

    def _compare(self, trial: TrialSpec, failure: Failure) -> None:
        if self._first is None:
            return
        if failure["kind"] in (Kind.LOST, Kind.NODE):
            self._first = None
            return
        self._first.append(signature(failure, trial.name, trial.stage))
        if len(set(self._first)) > 1:
            self._first = None
        elif len(self._first) == SAME_ERRORS:
            self.repeated = failure

    def _forget(self, trial_id: str) -> None:
        self._failures.pop(trial_id, None)
        self._alone.pop(trial_id, None)
        self._node_losses.pop(trial_id, None)

    def _failure(self, trial: TrialSpec, told: Failure | None) -> Failure:
        """The failure of this attempt: its own words if they are stored, else what the executor was told."""
        stored = reader.read_failure(self.store, trial.trial_id)
        if stored is not None and (told is None or _one_process(stored, told)):
            return stored
        failure = told or lost("its worker ended without a record")
        failure = self._placed(trial, failure)
        codec.write_json(self.store, layout.TrialFiles(trial.trial_id).failure, failure)
        return failure

    def _placed(self, trial: TrialSpec, failure: Failure) -> Failure:
        """Adds what the records know of an attempt that did not write its own failure."""
        tries = reader.read_run(self.store, trial.trial_id).get("attempts", [])
        host = failure["host"] if failure["pid"] or not tries else tries[-1]["host"]
        return {**failure, "host": host, "epoch": max(failure["epoch"], self._last_epoch(trial))}

    def _last_epoch(self, trial: TrialSpec) -> int:
        try:
            history = reader.read_history(self.store, trial.trial_id)
        except StorageError:
            return 0
        return history[-1].epoch if history else 0


def _said(failure: Mapping[str, Any]) -> str:
    return f"{failure['type']}: {failure['message']}"


def _one_process(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (one.get("host"), one.get("pid")) == (other["host"], other["pid"])
