"""Processes on a virtual clock: real code in threads, one at a time, in an order that a seed draws.

A process gives the turn away at every operation on its storage (`Clock.pause`), and gets it back when the
clock reaches its time. To kill it is to raise `Killed` where it stands; to stop it (SIGSTOP) is to give it
its turn late.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from itertools import count


class Killed(BaseException):
    """SIGKILL: nothing catches it, and nothing that the process does on its way out has an effect."""


class Process:
    """Something that runs, until it ends or is killed.

    Attributes:
        name: For messages.
        alive: Whether it has neither ended nor been killed.
        killed: Whether it was.
        frozen_until: Time before which it gets no turn.
    """

    def __init__(self, clock: Clock, name: str, body: Callable[[], None], last: Callable[[], None]):
        self.name, self.alive, self.killed, self.frozen_until = name, True, False, 0.0
        self._clock, self._body, self._last = clock, body, last
        self._turn = threading.Lock()
        self._turn.acquire()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def kill(self) -> None:
        """Ends it at its next turn, which comes at once."""
        if self.alive and not self.killed:
            self.killed, self.frozen_until = True, 0.0
            self._clock.wake(self, after=0.0)

    def step(self) -> None:
        """Lets it run until it pauses or ends."""
        self._turn.release()
        self._clock.back.acquire()

    def give_away(self) -> None:
        """Called by the process itself: waits for its next turn."""
        self._clock.back.release()
        self._turn.acquire()
        if self.killed:
            raise Killed

    def _run(self) -> None:
        self._turn.acquire()
        _here.process = self
        try:
            if not self.killed:
                self._body()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - told to the simulation, in its own thread
            self._clock.errors.append(error)
        self.alive = False
        self._last()
        self._clock.back.release()


class _Here(threading.local):
    process: Process | None = None


_here = _Here()


def current() -> Process | None:
    """The process whose code runs in this thread; None in helper threads of a library, and outside."""
    return _here.process


class Clock:
    """Virtual time: seconds that cost nothing.

    Attributes:
        now: The time.
        back: Released by the process that gives its turn away.
        errors: What escaped from a process; the test fails with it.
    """

    def __init__(self) -> None:
        self.now, self.back, self.errors = 0.0, threading.Semaphore(0), list[BaseException]()
        self._heap: list[tuple[float, int, Process | Callable[[], None]]] = []
        self._numbers = count()

    def start(
        self,
        name: str,
        body: Callable[[], None],
        *,
        after: float = 0.0,
        last: Callable[[], None] = lambda: None,
    ) -> Process:
        """Starts a process; its first turn comes after a while. `last` is called as it ends or is killed."""
        process = Process(self, name, body, last)
        self.wake(process, after=after)
        return process

    def wake(self, process: Process, *, after: float) -> None:
        """Gives a process a turn after a while."""
        heapq.heappush(self._heap, (self.now + after, next(self._numbers), process))

    def at(self, after: float, action: Callable[[], None]) -> None:
        """Does something after a while, outside of any process."""
        heapq.heappush(self._heap, (self.now + after, next(self._numbers), action))

    def pause(self, seconds: float | None) -> None:
        """Called by a process: others get their turns for this long, or until somebody wakes it."""
        process = current()
        assert process is not None
        if seconds is not None:
            self.wake(process, after=seconds)
        process.give_away()

    def run(self, *, until: float = 1e6) -> None:
        """Goes on until nothing is left to happen.

        Raises:
            AssertionError: Something still happens at the time `until`.
            BaseException: What escaped from a process.
        """
        while self._heap:
            assert self.now < until, "this does not end"
            when, _, what = heapq.heappop(self._heap)
            self.now = max(self.now, when)
            if not isinstance(what, Process):
                what()
            elif what.alive and self.now < what.frozen_until:
                self.wake(what, after=what.frozen_until - self.now)
            elif what.alive:
                what.step()
            if self.errors:
                raise self.errors[0]
