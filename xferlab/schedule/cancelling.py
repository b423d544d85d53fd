"""What becomes of a run's trials that somebody cancels: requests arrive in the storage while it goes on."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from xferlab.errors import RecordError, StorageError
from xferlab.plan.plan import Plan
from xferlab.plan.spec import TrialSpec
from xferlab.records import cancellations, logs
from xferlab.records.cancellations import Answer, Request
from xferlab.records.layout import StudyFiles
from xferlab.records.store import Store
from xferlab.schedule.graph import Listener, State, TrialGraph

log = logging.getLogger("xferlab.schedule")


def arms_left_out(plan: Plan, trials: Sequence[TrialSpec]) -> set[str]:
    """Returns the arms of a plan of which a run of some trials leaves out one or more."""
    ids = {trial.trial_id for trial in trials}
    return {arm for trial in plan.trials if trial.trial_id not in ids for arm in trial.arms}


def names_in_run(plan: Plan, trials: Sequence[TrialSpec]) -> dict[str, str]:
    """Returns the trial ids of a run by those names that want them.

    A name of an arm that the run leaves out wants nothing, unless all names of the trial are of such arms.
    """
    ids = {trial.trial_id for trial in trials}
    left_out = arms_left_out(plan, trials)
    wanted = {name: trial_id for name, trial_id in plan.names.items() if name.split("/")[0] not in left_out}
    needed = ids.difference(wanted.values())
    return {**wanted, **{name: trial_id for name, trial_id in plan.names.items() if trial_id in needed}}


class Inbox:
    """The requests to one run. While entered, a thread looks for new ones.

    A storage that does not answer costs the run nothing but the requests.
    """

    def __init__(self, store: Store, study: str, *, run: str, names: Mapping[str, str]):
        """Takes the storage, the study, the token of the run's lease, and its trials' ids by name."""
        self.store, self.study, self.names = store, study, names
        self._run, self._folder = run, f"{StudyFiles(study).requests}/{run}"
        self._read: set[str] = set()
        self._new: deque[tuple[str, Request]] = deque()
        self._every_s = cancellations.LOCAL_EVERY_S if store.is_local else cancellations.REMOTE_EVERY_S
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="xferlab-cancel", daemon=True)

    def __enter__(self) -> Inbox:
        """Forgets what earlier runs were asked for, and begins to look."""
        cancellations.forget_earlier(self.store, self.study, self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def look(self) -> None:
        """Reads requests that were not there before; leaves out damaged ones."""
        try:
            for name in self.store.list(self._folder):
                path = f"{self._folder}/{name}"
                if name.endswith(".json") and path not in self._read:
                    self._take_in(path)
        except StorageError as error:
            log.warning("requests to cancel trials cannot be read now: %s", error)

    def take(self) -> Iterator[tuple[str, Request]]:
        """Yields the requests that were read since the last call, by path."""
        while self._new:
            yield self._new.popleft()

    def answer(self, path: str, request: Request, answer: Answer, reasons: Mapping[str, str]) -> None:
        """Tells whoever asked, and writes down why trials are cancelled, by id, for those who look later."""
        try:
            cancellations.write_cancelled(self.store, self.study, reasons)
            answered = Request(request.names, request.text, request.host, request.at, answer)
            cancellations.write_request(self.store, path, answered)
        except StorageError as error:
            log.warning("what was cancelled cannot be written: %s", error)

    def _watch(self) -> None:
        while not self._over.is_set():
            self.look()
            self._over.wait(self._every_s)

    def _take_in(self, path: str) -> None:
        try:
            request = cancellations.read_request(self.store, path)
        except RecordError as error:
            self._read.add(path)
            log.warning("a request to cancel trials is left out; make it again: %s", error)
            return
        self._read.add(path)
        if request is not None and request.answer is None:
            self._new.append((path, request))


class Cancelling:
    """Does in the graph of a run what requests ask for. The executor stops those that run.

    A trial that several names mean is cancelled when all of these are.

    Attributes:
        stopping: Why trials that run are to be stopped, by id.
    """

    def __init__(self, graph: TrialGraph, listener: Listener, inbox: Inbox):
        self.stopping: dict[str, str] = {}
        self._graph, self._listener, self._inbox = graph, listener, inbox
        self._asked: set[str] = set()
        self._reasons: dict[str, str] = {}
        self._names: dict[str, list[str]] = defaultdict(list)
        for name, trial_id in inbox.names.items():
            self._names[trial_id].append(name)

    def look(self) -> None:
        """Does what new requests ask for."""
        for path, request in self._inbox.take():
            self._inbox.answer(path, request, self._answer(request), self._reasons)

    def ended(self, trial: TrialSpec) -> bool:
        """Cancels a trial that was to be stopped and has ended without a record; returns whether it was."""
        reason = self.stopping.pop(trial.trial_id, None)
        if reason is not None:
            self._cancel(trial, reason)
        return reason is not None

    def _answer(self, request: Request) -> Answer:
        names = self._inbox.names
        self._asked.update(request.names)
        answer = Answer(unknown=[name for name in request.names if name not in names])
        chosen = defaultdict[str, list[str]](list)
        for name in dict.fromkeys(request.names):
            if name in names:
                chosen[names[name]].append(name)
        # Children first: they are cancelled themselves, and not blocked by their parents.
        for trial_id in reversed([trial_id for trial_id in self._graph.trials if trial_id in chosen]):
            self._decide(trial_id, chosen[trial_id], request, answer)
        return replace(answer, blocked=list(dict.fromkeys(answer.blocked)))

    def _decide(self, trial_id: str, its_names: Sequence[str], request: Request, answer: Answer) -> None:
        state, trial = self._graph.states[trial_id], self._graph.trials[trial_id]
        others = [other for other in self._names[trial_id] if other not in self._asked]
        if state in (State.COMPLETE, State.FAILED):
            answer.ended.update(dict.fromkeys(its_names, str(state)))
        elif others:
            answer.shared.update(dict.fromkeys(its_names, others))
            log.warning(
                "%s is not cancelled: it is also %s, which is not", ", ".join(its_names), ", ".join(others)
            )
        else:
            answer.cancelled.extend(its_names)
            self._reasons.setdefault(trial_id, request.reason)
            answer.blocked.extend(self._graph.trials[each].name for each in self._graph.waiting_for(trial_id))
            if state is State.RUNNING:
                self.stopping.setdefault(trial_id, request.reason)
            elif state is not State.CANCELLED:
                self._cancel(trial, request.reason)

    def _cancel(self, trial: TrialSpec, reason: str) -> None:
        blocked = self._graph.cancel(trial.trial_id)
        logs.note(self._inbox.store, trial.trial_id, f"cancelled: {reason}", level="WARNING")
        self._listener.changed(trial, State.CANCELLED, reason)
        for trial_id in blocked:
            self._listener.changed(self._graph.trials[trial_id], State.BLOCKED, f"{trial.name} was cancelled")
