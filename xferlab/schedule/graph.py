"""The readiness rule, pure: from the graph and the states of its trials to what may start now."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from xferlab.plan.spec import TrialSpec


class State(StrEnum):
    """Where a trial stands in one run of the study."""

    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"


class Kind(NamedTuple):
    """What an estimate of a trial's time rests on: its stage, and how many epochs it may have."""

    stage: str
    max_epochs: int

    @staticmethod
    def of(trial: TrialSpec) -> Kind:
        """Returns the kind of a trial."""
        return Kind(trial.stage, trial.max_epochs)


class Listener:
    """Watches a run; the command line's live view is one. What it does not override does nothing."""

    def begin(self, graph: TrialGraph) -> None:
        """The run starts with these states."""

    def changed(self, trial: TrialSpec, state: State, reason: str = "") -> None:
        """A trial's state changed; a failure comes with its reason."""

    def epoch(self, trial: TrialSpec, epoch: int, best_score: float | None) -> None:
        """A trial finished an epoch; `best_score` is its best so far."""


def trial_priorities(trials: Sequence[TrialSpec], arms: Mapping[str, int]) -> dict[str, int]:
    """Returns the priority of each trial, by id: the highest of its arms and of all that need it.

    Args:
        trials: Parents before children.
        arms: Priority of each arm that is not 0.
    """
    highest: dict[str, int] = {}
    for trial in reversed(trials) if arms else ():
        own = max(arms.get(arm, 0) for arm in trial.arms)
        priority = highest[trial.trial_id] = max(own, highest.get(trial.trial_id, own))
        for parent in trial.parents:
            highest[parent] = max(priority, highest.get(parent, priority))
    return highest


class TrialGraph:
    """States of all trials. A trial is ready when its parents are complete, blocked when one cannot be.

    Of those that are ready, the one of the highest priority starts first, then the one that has been ready
    for longest; one that was put back comes first among its equals.
    """

    def __init__(
        self,
        trials: Sequence[TrialSpec],
        complete: Collection[str] = (),
        *,
        priorities: Mapping[str, int] | None = None,
    ):
        """Takes trials with parents before children, and the ids of those that need not run.

        `priorities` are those of trials by id, as of `trial_priorities`; 0 where there is none.
        """
        self._priorities = priorities or {}
        self.trials: dict[str, TrialSpec] = {}
        self.states: dict[str, State] = {}
        self._counts: dict[State, Counter[Kind]] = {state: Counter() for state in State}
        self._children: dict[str, list[str]] = defaultdict(list)
        self._ready: list[tuple[int, int, str]] = []  # a heap: negative priority, place in the line, id
        self._first_place, self._last_place = 0, 0
        for trial in trials:
            self._add(trial)
        for trial_id in self.trials:
            if trial_id in complete:
                self.complete(trial_id)
        for trial_id in self.trials:
            self._offer(trial_id)

    def take(self) -> TrialSpec | None:
        """Returns the next trial that may start, now running; None if none may at the moment."""
        while self._ready:
            _, _, trial_id = heapq.heappop(self._ready)
            if self.states[trial_id] is State.READY:
                self._set(trial_id, State.RUNNING)
                return self.trials[trial_id]
        return None

    def put_back(self, trial_id: str) -> None:
        """Makes a running trial ready again: it was interrupted, or is tried once more."""
        self._set(trial_id, State.READY)
        self._first_place -= 1
        self._queue(trial_id, self._first_place)

    def complete(self, trial_id: str) -> None:
        """Notes that a trial's record exists; its children may become ready."""
        if self.states[trial_id] is State.COMPLETE:
            return
        self._set(trial_id, State.COMPLETE)
        for child in self._children[trial_id]:
            self._offer(child)

    def reopen(self, trial_id: str) -> None:
        """Makes a complete trial ready again: its files turned out to be damaged. Its open children wait."""
        for child in self._children[trial_id]:
            if self.states[child] is State.READY:
                self._set(child, State.WAITING)
        self._set(trial_id, State.WAITING)
        self._offer(trial_id)

    def wait(self, trial_id: str) -> None:
        """Makes a running trial wait for its parents again; ready at once if all of them are complete."""
        self._set(trial_id, State.WAITING)
        self._offer(trial_id)

    def fail(self, trial_id: str) -> list[str]:
        """Notes that a trial cannot be done; returns its descendants that are blocked now."""
        return self._give_up(trial_id, State.FAILED)

    def cancel(self, trial_id: str) -> list[str]:
        """Notes that a trial is not to be done in this run; returns its descendants that are blocked now."""
        return self._give_up(trial_id, State.CANCELLED)

    def waiting_for(self, trial_id: str) -> list[str]:
        """Returns the descendants of a trial that have not begun and are not blocked."""
        waiting: dict[str, None] = {}
        open_ids = deque(self._children[trial_id])
        while open_ids:
            child = open_ids.popleft()
            if child not in waiting and self.states[child] in (State.WAITING, State.READY):
                waiting[child] = None
                open_ids.extend(self._children[child])
        return list(waiting)

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to start, now or later."""
        return not any(self._counts[state].total() for state in (State.WAITING, State.READY))

    def counts(self) -> Counter[State]:
        """Returns the number of trials in each state."""
        return +Counter({state: kinds.total() for state, kinds in self._counts.items()})

    def open_kinds(self) -> Counter[Kind]:
        """Returns how many trials of each kind have not ended and are not blocked; any thread may ask."""
        states = (State.WAITING, State.READY, State.RUNNING)
        return sum((self._counts[state].copy() for state in states), Counter())

    def _give_up(self, trial_id: str, state: State) -> list[str]:
        self._set(trial_id, state)
        blocked = self.waiting_for(trial_id)
        for descendant in blocked:
            self._set(descendant, State.BLOCKED)
        return blocked

    def _add(self, trial: TrialSpec) -> None:
        self.trials[trial.trial_id] = trial
        self._set(trial.trial_id, State.WAITING)
        for parent in trial.parents:
            self._children[parent].append(trial.trial_id)

    def _set(self, trial_id: str, state: State) -> None:
        kind = Kind.of(self.trials[trial_id])
        if trial_id in self.states:
            self._counts[self.states[trial_id]][kind] -= 1
        self.states[trial_id] = state
        self._counts[state][kind] += 1

    def _offer(self, trial_id: str) -> None:
        is_free = all(self.states[parent] is State.COMPLETE for parent in self.trials[trial_id].parents)
        if self.states[trial_id] is State.WAITING and is_free:
            self._set(trial_id, State.READY)
            self._last_place += 1
            self._queue(trial_id, self._last_place)

    def _queue(self, trial_id: str, place: int) -> None:
        heapq.heappush(self._ready, (-self._priorities.get(trial_id, 0), place, trial_id))
