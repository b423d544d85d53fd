"""The processes below this one, so that none stays behind; without /proc nothing is known of them."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

Processes = dict[int, str]
"""Start times, in clock ticks since boot, by pid: the two together identify a process."""


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
