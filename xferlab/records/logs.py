"""What is said of a trial: lines of JSON in its folder, a file for each attempt and each word of the driver.

No two processes write one file, so no line is lost where two executions of a trial overlap. A log is no
record: nothing is decided by it, it is bounded, and a line that cannot be written is lost without an error.
On a local storage lines are appended about once a second; an object store gets the whole file, at most every
10 s. A kill costs the lines since then.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from xferlab.errors import StorageError
from xferlab.records.layout import TrialFiles
from xferlab.records.store import Store

MAX_BYTES, NUM_LAST, MAX_CHARACTERS = 1 << 20, 100, 1 << 14
"""Of a file: the first lines that it holds in full, how many of its last lines, and the longest line."""
KEPT_FILES = 40
"""Of a trial; the oldest go."""
LOCAL_EVERY_S, REMOTE_EVERY_S = 1.0, 10.0
WORKER, DRIVER, MIRROR = "worker", "driver", "W&B"
"""Who speaks of a trial: the process that trains it, the one that hands trials out, the mirror in W&B."""


@dataclass(frozen=True)
class LogLine:
    """One line.

    Attributes:
        at: When, ISO 8601 in UTC with microseconds.
        level: `INFO`, `WARNING` or `ERROR`.
        source: `worker`, `driver` or `W&B`.
        host: Where it was written.
        pid: By which process.
        attempt: By which attempt, from 1; 0 where whoever speaks does not know.
        text: What is said; may have several lines.
    """

    at: str
    level: str
    source: str
    host: str
    pid: int
    attempt: int
    text: str


class LogFile:
    """The log of one attempt. Any thread may add lines; they are written by whoever calls `flush`."""

    def __init__(self, store: Store, trial_id: str, *, attempt: int = 0):
        self._store, self._folder, self._attempt = store, TrialFiles(trial_id).logs, attempt
        self._name = f"{self._folder}/{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}.jsonl"
        self._lock = threading.Lock()
        self._written, self._waiting = b"", b""
        self._last: deque[bytes] = deque(maxlen=NUM_LAST)
        self._num_more = 0
        self._flushed_at = time.monotonic() - LOCAL_EVERY_S

    def add(self, text: str, *, level: str = "INFO", source: str = WORKER) -> None:
        """Adds a line, to be written by the next `flush`; never raises."""
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        place = (socket.gethostname(), os.getpid(), self._attempt)
        line = LogLine(now, level, source, *place, text[:MAX_CHARACTERS])
        with self._lock:
            self._keep(json.dumps(vars(line)).encode() + b"\n")

    def flush(self, *, now: bool = False) -> None:
        """Writes what waits, if it is time or `now` is true."""
        every_s = LOCAL_EVERY_S if self._store.is_local else REMOTE_EVERY_S
        if now or (self._waiting and time.monotonic() - self._flushed_at >= every_s):
            self._write()

    def close(self) -> None:
        """Writes the rest."""
        with self._lock:
            if left_out := self._num_more - len(self._last):
                self._waiting += b"[%d lines left out]\n" % left_out  # no JSON: a reader leaves it out
            self._waiting += b"".join(self._last)
            self._last.clear()
            self._num_more = 0
        self._write()
        if self._attempt > KEPT_FILES:
            with suppress(StorageError):
                for name in self._store.list(self._folder)[:-KEPT_FILES]:
                    self._store.delete(f"{self._folder}/{name}")

    def _keep(self, line: bytes) -> None:
        if len(self._written) + len(self._waiting) < MAX_BYTES:
            self._waiting += line
        else:
            self._last.append(line)
            self._num_more += 1

    def _write(self) -> None:
        with self._lock:
            lines, self._waiting = self._waiting, b""
            self._written += lines
        self._flushed_at = time.monotonic()
        if not lines:
            return
        with suppress(StorageError):  # whoever needs the storage more will say so
            if self._store.is_local:
                self._store.append(self._name, lines)
            else:
                self._store.write(self._name, self._written)


def note(store: Store, trial_id: str, text: str, *, level: str, source: str = DRIVER) -> None:
    """Writes one line of the driver, or of whoever else speaks of a trial from outside."""
    log = LogFile(store, trial_id)
    log.add(text, level=level, source=source)
    log.close()


class LogReader:
    """Reads the log of a trial again and again: those of its files that have grown."""

    def __init__(self, store: Store, trial_id: str):
        self._store, self._folder = store, TrialFiles(trial_id).logs
        self._sizes: dict[str, int] = {}
        self._num_read: dict[str, int] = {}

    def new_lines(self) -> list[LogLine]:
        """Returns the lines that were not there before, in the order of time; torn ones are left out.

        Raises:
            StorageError: They cannot be read.
        """
        lines = []
        for name, info in self._store.walk(self._folder):
            if info.size == self._sizes.get(name):
                continue
            data = self._store.read(name) or b""
            self._sizes[name] = len(data)
            whole = data[: data.rfind(b"\n") + 1].splitlines()
            lines += [_parsed(line) for line in whole[self._num_read.get(name, 0) :]]
            self._num_read[name] = len(whole)
        return sorted(filter(None, lines), key=lambda line: line.at)


def _parsed(line: bytes) -> LogLine | None:
    try:
        body = json.loads(line)
        return LogLine(**body) if isinstance(body, Mapping) else None
    except (ValueError, TypeError):
        return None
