"""Notices that a cluster is gone, and which processes live. Without /proc nothing is known of processes.

Ray itself waits forever for a dead node, or ends the process.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from xferlab.errors import ClusterLostError
from xferlab.schedule.stop import StopRequest

Address = tuple[str, int]
"""Host and port."""
Processes = dict[int, str]
"""Start times, in clock ticks since boot, by pid: the two together identify a process."""
PROBE_EVERY_S = 1.0
END_WITHIN_S = 15.0
"""Time that the run has to end by itself; calls into a cluster that is gone may never return."""


class Watch:
    """While entered, a thread checks that addresses accept connections; if one does not, the run ends."""

    def __init__(
        self,
        addresses: Mapping[str, Address],
        stop: StopRequest,
        *,
        patience_s: float,
        started_here: bool = False,
    ):
        """Takes what listens at which address, and for how long it may be silent.

        If the cluster was `started_here` and is lost, its processes are killed in the end: some of Ray's wait
        for it.
        """
        self._addresses, self._stop, self._patience_s = addresses, stop, patience_s
        self._started_here, self._processes = started_here, Processes()
        self._resting, self._left = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="xferlab-watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def rest(self) -> None:
        """Stops watching: the cluster is about to be left, and may go."""
        self._resting.set()

    def __exit__(self, *_: object) -> None:
        """Stops watching; until then a cluster that was lost may hold up its leaving for a while only."""
        self._resting.set()
        self._left.set()
        self._thread.join()
        if self._stop.problem is not None:
            kill(self._processes)

    def _watch(self) -> None:
        answered = dict.fromkeys(self._addresses, time.monotonic())
        while not self._resting.wait(PROBE_EVERY_S):
            if self._started_here:
                self._processes |= below(os.getpid())
            for name, address in self._addresses.items():
                if listens(address, timeout_s=self._patience_s):
                    answered[name] = time.monotonic()
                elif time.monotonic() - answered[name] >= self._patience_s and not self._resting.is_set():
                    self._end(name)
                    return

    def _end(self, name: str) -> None:
        error = ClusterLostError(f"the Ray cluster was lost ({name} is gone); the same command continues")
        self._stop.problem = error
        if not self._left.wait(END_WITHIN_S):
            sys.stderr.write(f"xferlab: {error}\n")
            sys.stderr.flush()
            kill(self._processes)
            os._exit(os.EX_TEMPFAIL)


def listens(address: Address, *, timeout_s: float) -> bool:
    """Returns whether a process accepts connections at an address."""
    try:
        socket.create_connection(address, timeout=timeout_s).close()
    except OSError:
        return False
    return True


def below(pid: int) -> Processes:
    """Returns all descendants of a process."""
    descendants: Processes = {}
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread or process may end at any time
            for child in map(int, children.read_text().split()):
                if start := born(child):
                    descendants |= {child: start, **below(child)}
    return descendants


def kill(processes: Processes) -> None:
    """Kills those of some processes that are still there."""
    for pid, start in processes.items():
        if born(pid) == start:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def born(pid: int) -> str:
    """Returns the start time of a live process in clock ticks since boot; empty if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *values = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else values[18]
