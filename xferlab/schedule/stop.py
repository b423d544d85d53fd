"""Ctrl-C and the notice of a scheduler as a request: the first ends gracefully, the second at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from xferlab.errors import XferlabError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Ctrl-C; the notice of batch systems and containers; what SLURM jobs ask for with `--signal=B:USR1@120`; a
terminal or connection that closed, unless the command was started with `nohup`, which ignores that."""


class StopNow(KeyboardInterrupt):
    """A signal that ends the process at once.

    Attributes:
        signal: Which one came first.
    """

    def __init__(self, number: signal.Signals):
        super().__init__(number.name)
        self.signal = number


class StopRequest:
    """While entered, the first signal is noted and the next one raises `StopNow`.

    Attributes:
        graceful: While False, the first signal raises, too: nobody asks for it yet.
        signal: The first signal that came.
        problem: What else makes it impossible to go on; whoever runs trials raises it when they have ended.
    """

    def __init__(self, *, graceful: bool = True) -> None:
        self.graceful = graceful
        self.signal: signal.Signals | None = None
        self.problem: XferlabError | None = None
        self._before: dict[signal.Signals, Any] = {}

    def asked(self) -> bool:
        """Returns whether to end."""
        return self.signal is not None or self.problem is not None

    def check(self) -> None:
        """Raises `StopNow` or the problem if it is to end: for work that has nothing to save."""
        if self.problem is not None:
            raise self.problem
        if self.signal is not None:
            raise StopNow(self.signal)

    @contextmanager
    def after(self, hours: float | None) -> Iterator[None]:
        """Sends this process SIGTERM after so many hours, unless it is to end before; None: never."""
        if hours is None:
            yield
            return
        timer = threading.Timer(min(hours * 3600, threading.TIMEOUT_MAX), self._terminate)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def _terminate(self) -> None:
        if not self.asked():
            os.kill(os.getpid(), signal.SIGTERM)

    def listen(self) -> None:
        """Installs the handlers, where this is the main thread; again, if a library put its own there."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._before = self._before or {number: signal.getsignal(number) for number in SIGNALS}
        for number, handler in self._before.items():
            if number != signal.SIGHUP or handler != signal.SIG_IGN:
                signal.signal(number, self._handle)

    def __enter__(self) -> StopRequest:
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first = self.signal is None
        self.signal = self.signal or signal.Signals(number)
        if not (first and self.graceful):
            raise StopNow(self.signal)
