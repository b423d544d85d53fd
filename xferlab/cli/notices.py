"""Tells a team of a study that ends, first fails or stalls; telling never delays or fails a run."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable

from xferlab.cli.session import Session
from xferlab.cli.view import count_of
from xferlab.plan.spec import TrialSpec
from xferlab.schedule.graph import Listener, State, TrialGraph
from xferlab.schedule.study import Outcome
from xferlab.study.schema import Notify
from xferlab.tracking.rebuild import alert_study
from xferlab.tracking.webhook import Notice, is_address, post

DELIVERY_S = 10.0
"""Longest wait, at the end of a run, for messages that are still on their way."""
_CHECKS = 20
"""How often the time without progress that counts as a stall is divided, to look."""


class Notices(Listener):
    """While entered, passes all events on to another listener, and sends messages from threads of their own.

    A run in which no trial was left to do tells nothing.
    """

    def __init__(self, session: Session, listener: Listener):
        self._session, self._listener = session, listener
        self._config = session.loaded.base.tracking.notify or Notify(on=[])
        self._address = os.environ.get(self._config.webhook or "", "")
        self._graph = TrialGraph([])
        self._outcome: Outcome | None = None
        self._begun = self._moved = time.monotonic()
        self._started = self._stalled = False
        self._told: set[str] = set()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._problems: dict[str, None] = {}
        if self._config.webhook and not is_address(self._address):
            self._problems[f"the environment variable {self._config.webhook} holds no http(s) address"] = None

    def begin(self, graph: TrialGraph) -> None:
        """The run starts."""
        self._graph = graph
        if "stall" in self._config.on:
            self._start(self._watch)
        self._listener.begin(graph)

    def changed(self, trial: TrialSpec, state: State, reason: str = "") -> None:
        """Tells the first failure; of its reason the kind alone, since the message may hold paths."""
        self.alive()
        self._started = True
        self._listener.changed(trial, state, reason)
        if state is State.FAILED and "failure" not in self._told:
            kind = reason.partition(":")[0]
            self._tell("failure", "first failure", f"Trial {trial.name} failed ({kind}). {self._advice()}")

    def epoch(self, trial: TrialSpec, epoch: int, best_score: float | None) -> None:
        """An epoch is a sign of life."""
        self.alive()
        self._listener.epoch(trial, epoch, best_score)

    def alive(self) -> None:
        """Notes that something moves."""
        self._moved, self._stalled = time.monotonic(), False

    def ended(self, outcome: Outcome) -> tuple[str, str] | None:
        """Tells how a run ended; returns title and text for W&B, None where nothing is to be told there."""
        self._outcome = outcome
        self._over.set()
        title, text = self._end_words(outcome)
        if not self._tell("end", title, text, by_wandb=False) or not self._config.wandb_alert:
            return None
        return self._title(title), text

    def problems(self) -> list[str]:
        """Waits a little for messages on their way; returns what could not be told, a line each."""
        self._over.set()
        deadline = time.monotonic() + DELIVERY_S
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            self._problems[f"no answer in {DELIVERY_S:g} s"] = None
        lines = [
            f"warning: tracking.notify: {problem}; the study is not affected" for problem in self._problems
        ]
        self._problems.clear()
        return lines

    def __enter__(self) -> Notices:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Tells of an error that ended the run, and stops."""
        if kind is not None and self._outcome is None:
            self._tell("end", "stopped", f"The run was ended by {kind.__name__}; the same command continues.")
        self.problems()

    def _end_words(self, outcome: Outcome) -> tuple[str, str]:
        counts = outcome.graph.counts()
        done, total = counts[State.COMPLETE], sum(counts.values())
        text = f"{done} of {total} trials complete, {counts[State.FAILED]} failed."
        if cancelled := counts[State.CANCELLED]:
            text = f"{text[:-1]}, {cancelled} cancelled."
        if outcome.ending.signal is not None:
            return "interrupted", f"{text} The same command continues."
        if outcome.ending.repeated:
            return "stopped by one error", f"{text} The first trials all failed alike. {self._advice()}"
        if done == total:
            return "complete", text
        return "ended, incomplete", f"{text} {self._advice()}" if counts[State.FAILED] else text

    def _advice(self) -> str:
        return f"`xferlab failures` says why, for study {self._session.study}."

    def _title(self, what: str) -> str:
        profile = self._session.loaded.profile
        return f"{self._session.study}{f' ({profile})' if profile else ''}: {what}"

    def _tell(self, event: str, what: str, text: str, *, by_wandb: bool = True) -> bool:
        """Sends a message, if the study asks for this event and trials were left to do."""
        if event not in self._config.on or not self._started:
            return False
        self._told.add(event)
        counts = {str(state): number for state, number in Counter(self._graph.states.values()).items()}
        hours = round((time.monotonic() - self._begun) / 3600, 3)
        names = (self._session.study, self._session.loaded.profile)
        notice = Notice(event, *names, self._title(what), text, counts, hours)
        if is_address(self._address):
            self._start(lambda: self._post(notice))
        if by_wandb and self._config.wandb_alert:
            self._start(lambda: self._alert(notice))
        return True

    def _start(self, do: Callable[[], None]) -> None:
        thread = threading.Thread(target=do, name="xferlab-notices", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _post(self, notice: Notice) -> None:
        if problem := post(self._address, notice.body(self._config.format)):
            self._problems[f"the webhook did not take a message: {problem}"] = None

    def _alert(self, notice: Notice) -> None:
        directory = self._session.cache_dir / "wandb"
        if problem := alert_study(self._session.store, notice, directory=directory):
            self._problems[f"W&B did not take an alert: {problem}"] = None

    def _watch(self) -> None:
        patience_s = 60 * self._config.stall_after_min
        while not self._over.wait(patience_s / _CHECKS):
            still_s = time.monotonic() - self._moved
            if still_s >= patience_s and not self._stalled:
                self._started = self._stalled = True
                running = sum(state is State.RUNNING for state in self._graph.states.values())
                text = (
                    f"No trial has ended an epoch or begun for {still_s / 60:.0f} min; "
                    f"{count_of(running, 'trial')} running. Look at the cluster and at `xferlab status`."
                )
                self._tell("stall", "no progress", text)
