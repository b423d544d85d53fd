"""Who drives a study: one process at a time. A lease saves wasted work; safety comes from idempotence."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from xferlab.errors import LeaseHeldError, StorageError
from xferlab.records import layout
from xferlab.records.store import Store

HEARTBEAT_S = 10.0
EXPIRES_AFTER_S = 60.0
_FIELDS = {"host", "pid", "born", "since", "heartbeat"}

log = logging.getLogger("xferlab.schedule")


class Lease:
    """Held while entered: exclusive locally, best effort on object stores; a dead holder's is taken over."""

    def __init__(self, store: Store, study: str):
        """Names the study; nothing is taken yet."""
        self._store, self._name, self._study = store, layout.lease_path(study), study
        self._since = datetime.now(UTC).isoformat(timespec="seconds")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="xferlab-lease", daemon=True)

    def __enter__(self) -> Lease:
        """Takes the lease.

        Raises:
            LeaseHeldError: A live process holds it; says which and since when.
        """
        if not self._store.create(self._name, self._content()):
            holder = self._holder()
            if _alive(holder):
                raise LeaseHeldError(
                    f"study {self._study!r} in {self._store.shown} is driven by process {holder['pid']} on "
                    f"{holder['host']} since {holder['since']}. Wait for it, stop it, or use another storage."
                )
            self._store.write(self._name, self._content())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives the lease back, unless another process has taken it over."""
        self._stop.set()
        self._thread.join()
        if _is_this_process(self._holder()):
            self._store.delete(self._name)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            try:
                self._store.write(self._name, self._content())
            except StorageError as error:
                log.warning("%s; trying again in %g s", error, HEARTBEAT_S)

    def _content(self) -> bytes:
        content = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "born": _born(os.getpid()),
            "since": self._since,
            "heartbeat": time.time(),
        }
        return json.dumps(content).encode()

    def _holder(self) -> dict[str, Any]:
        """Who holds the lease; empty if nobody does, or nobody can tell."""
        try:
            holder = json.loads(self._store.read(self._name) or b"{}")
        except ValueError:
            return {}
        return holder if isinstance(holder, dict) and set(holder) >= _FIELDS else {}


def _alive(holder: dict[str, Any]) -> bool:
    """Whether a holder still lives: on this host by its process, elsewhere by its heartbeat."""
    if not holder:
        return False
    if holder["host"] == socket.gethostname() and Path("/proc/self").exists():
        return _born(holder["pid"]) is not None and _born(holder["pid"]) == holder["born"]
    return time.time() - float(holder["heartbeat"]) < EXPIRES_AFTER_S


def _is_this_process(holder: dict[str, Any]) -> bool:
    return (holder.get("host"), holder.get("pid")) == (socket.gethostname(), os.getpid())


def _born(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot, which tells a reused pid; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]
