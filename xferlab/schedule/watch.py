"""Notices that a cluster is gone. Ray itself waits for ever for a dead node, or ends the process."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType

from xferlab.errors import ClusterLostError
from xferlab.schedule.processes import Processes, below, kill
from xferlab.schedule.stop import StopRequest

PROBE_EVERY_S = 1.0
END_WITHIN_S = 15.0
"""Time that the run has to end by itself; calls into a cluster that is gone may never return."""


class Watch:
    """While entered, a thread sees whether somebody listens at some places; if not, the run is to stop."""

    def __init__(
        self,
        places: Mapping[str, tuple[str, int]],
        stop: StopRequest,
        *,
        patience_s: float,
        own: bool = False,
    ):
        """Takes what listens where, and for how long it may be silent.

        If a cluster of our `own` is lost, its processes are killed in the end: some of Ray's wait for it.
        """
        self._places, self._stop, self._patience_s, self._own = places, stop, patience_s, own
        self._below: Processes = {}
        self._resting, self._left = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="xferlab-watch", daemon=True)

    def __enter__(self) -> Watch:
        """Starts to watch."""
        self._thread.start()
        return self

    def rest(self) -> None:
        """Stops looking: the cluster is about to be left, and may go."""
        self._resting.set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops watching; until then a cluster that was lost may hold up its leaving for a while only."""
        self._resting.set()
        self._left.set()
        self._thread.join()
        if self._stop.problem is not None:
            kill(self._below)

    def _watch(self) -> None:
        heard = dict.fromkeys(self._places, time.monotonic())
        while not self._resting.wait(PROBE_EVERY_S):
            if self._own:
                self._below |= below(os.getpid())
            for name, place in self._places.items():
                if listens(place, timeout_s=self._patience_s):
                    heard[name] = time.monotonic()
                elif time.monotonic() - heard[name] >= self._patience_s and not self._resting.is_set():
                    self._lost(name)
                    return

    def _lost(self, name: str) -> None:
        error = ClusterLostError(f"the Ray cluster was lost ({name} is gone); the same command continues")
        self._stop.fail(error)
        if not self._left.wait(END_WITHIN_S):
            sys.stderr.write(f"xferlab: {error}\n")
            sys.stderr.flush()
            kill(self._below)
            os._exit(os.EX_TEMPFAIL)


def listens(place: tuple[str, int], *, timeout_s: float) -> bool:
    """Returns whether a process accepts connections at a host and port."""
    try:
        socket.create_connection(place, timeout=timeout_s).close()
    except OSError:
        return False
    return True
