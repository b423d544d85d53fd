"""Who drives a study: one process at a time. A lease saves wasted work; safety comes from idempotence.

The holder renews its lease. If it has not for `expires_after_s`, it is dead or stopped; another takes over.
Clocks of two machines are never compared: a reader elsewhere watches whether the lease changes. Should two
processes take over at the same moment, the one whose lease was overwritten ends when it next renews it.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from xferlab.errors import LeaseHeldError, StorageError, UsageError
from xferlab.records import layout
from xferlab.records.store import Store
from xferlab.schedule.watch import born

EXPIRES_AFTER_S = 60.0
"""Unless `XFERLAB_LEASE_S` says otherwise."""
RENEWALS, LOOKS = 6, 60
"""How often a lease is renewed, and how often a watcher reads it, before it expires."""
YIELDED_RENEWALS = 2
"""A holder that wakes only looks so many times: its successor writes over what it may have written late."""

log = logging.getLogger("xferlab.schedule")


@dataclass(frozen=True)
class Holder:
    """What a lease says.

    Attributes:
        host: For people.
        pid: Process number on its machine.
        since: When it took the lease, ISO 8601 in UTC.
        machine: Boot of the kernel and process namespace in which `pid` means something; empty if unknown.
        born: Start of the process in clock ticks since boot, which tells a reused number; empty if unknown.
        token: Drawn by the holder: no two leases share it.
        beat: Monotonic clock of its machine at the last renewal, s.
        expires_after_s: Time without a renewal after which it is nobody's.
        arms: The arms of the study that it runs; none where these are all.
        at: Clock of its machine at the last renewal, seconds since the epoch.
    """

    host: str
    pid: int
    since: str
    machine: str
    born: str
    token: str
    beat: float
    expires_after_s: float
    arms: tuple[str, ...] = ()
    at: float = 0.0

    @staticmethod
    def this_process(arms: Iterable[str] = ()) -> Holder:
        """Returns what this process writes."""
        return Holder(
            host=socket.gethostname(),
            pid=os.getpid(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=_machine(),
            born=born(os.getpid()),
            token=secrets.token_hex(8),
            beat=time.monotonic(),
            expires_after_s=_expires_after_s(),
            arms=tuple(arms),
            at=time.time(),
        )

    @staticmethod
    def read(content: bytes | None) -> Holder | None:
        """Returns who holds the lease; None if nobody does, or nobody can tell."""
        try:
            return _HOLDER.validate_json(content or b"null")
        except ValidationError:
            return None

    @property
    def who(self) -> str:
        """Process and host, for messages."""
        return f"process {self.pid} on {self.host}"

    @property
    def is_here(self) -> bool:
        """Whether this machine and process namespace are the holder's."""
        return bool(self.machine) and self.machine == _machine()

    @property
    def lives(self) -> bool:
        """Whether a holder that `is_here` lives, by its process and our clock."""
        # abs: a clock that is ahead of ours belongs to another time namespace
        fresh = abs(time.monotonic() - self.beat) < self.expires_after_s
        return fresh and born(self.pid) == self.born

    def to_bytes(self) -> bytes:
        """Returns the content of the lease."""
        return _HOLDER.dump_json(self)


_HOLDER = TypeAdapter(Holder)


class Lease:
    """Held while entered: exclusive locally, best effort on object stores; a dead holder's is taken over.

    A holder that finds another one's lease was stopped for too long. It asks its process to stop, as SIGTERM
    does, and leaves the lease as it is.
    """

    def __init__(self, store: Store, name: str, *, search: bool = False, arms: Iterable[str] = ()):
        """Names the study and those arms of it that run, or the search by its id; nothing is taken yet."""
        self._store = store
        self._path = layout.SearchFiles(name).lease if search else layout.StudyFiles(name).lease
        self._what = f"{'search' if search else 'study'} {name!r} in {store.shown}"
        self._holder = Holder.this_process(arms)
        self._predecessor = ""
        self._successor: Holder | None = None
        self._yields = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="xferlab-lease", daemon=True)

    @property
    def token(self) -> str:
        """What no other lease has."""
        return self._holder.token

    def __enter__(self) -> Lease:
        """Takes the lease; from a holder on another machine only after it was watched for its time.

        Raises:
            LeaseHeldError: A live process holds it; says which and since when.
        """
        if not self._store.create(self._path, self._holder.to_bytes()):
            self._take_over()
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Gives the lease back, unless another process has taken it over.

        Raises:
            LeaseHeldError: Another has; says which. Not raised over another error.
        """
        self._stop.set()
        self._thread.join()
        stored = self._read()
        if stored is not None and stored.token == self._holder.token:
            self._store.delete(self._path)
        elif self._successor is not None and error is None:
            raise LeaseHeldError(self._lost(self._successor))

    def _lost(self, successor: Holder) -> str:
        return (
            f"{self._what} was taken over by {successor.who} at {successor.since}: this process "
            f"({self._holder.pid}) had not renewed its lease for {self._holder.expires_after_s:g} s. It ends "
            "here and goes on there; trials that both had begun are computed twice, with equal records."
        )

    def _take_over(self) -> None:
        stored = self._read()
        if stored is not None:
            self._predecessor = stored.token
            if live := self._live(stored):
                raise LeaseHeldError(
                    f"{self._what} is driven by {live.who} since {live.since}. "
                    "Wait for it, stop it, or use another storage."
                )
            log.warning(
                "%s: taken over from %s, which is gone or stopped; what it had not finished goes on from its "
                "last checkpoint, and is computed twice if it wakes", self._what, stored.who,
            )  # fmt: skip
        self._write()

    def _keep(self) -> None:
        every_s = self._holder.expires_after_s / RENEWALS
        while self._successor is None and not self._stop.wait(every_s):
            try:
                self._renew()
            except StorageError as error:
                log.warning("%s; trying again in %g s", error, every_s)

    def _renew(self) -> None:
        stored = self._read()
        if stored is not None and stored.token not in (self._holder.token, self._predecessor):
            self._successor = stored
            log.warning("%s", self._lost(stored))
            os.kill(os.getpid(), signal.SIGTERM)
            return
        now = time.monotonic()
        if now - self._holder.beat > self._holder.expires_after_s:
            self._holder, self._yields = replace(self._holder, beat=now), YIELDED_RENEWALS
        if self._yields:
            self._yields -= 1
            return
        self._write()

    def _write(self) -> None:
        self._holder = replace(self._holder, beat=time.monotonic(), at=time.time())
        self._store.write(self._path, self._holder.to_bytes())

    def _read(self) -> Holder | None:
        return Holder.read(self._store.read(self._path))

    def _live(self, holder: Holder) -> Holder | None:
        """Who lives of the holder and its successors: here by process and clock, elsewhere by watching."""
        if holder.is_here:
            return holder if holder.lives else None
        log.warning(
            "%s is held by %s since %s; watching for up to %g s whether that is alive",
            self._what, holder.who, holder.since, holder.expires_after_s,
        )  # fmt: skip
        deadline = time.monotonic() + holder.expires_after_s
        while time.monotonic() < deadline:
            time.sleep(holder.expires_after_s / LOOKS)
            stored = self._read()
            if stored != holder:
                return stored
        return None


def driver_of(store: Store, study: str) -> Holder | None:
    """Returns who drives a study, as far as one look tells; None if nobody does.

    A holder on another machine is judged by when its lease was written, by its clock or the storage's: one of
    them may be wrong, and a moment that is still to come says nothing. Twice its time is allowed, since
    clocks of machines differ.
    """
    path = layout.StudyFiles(study).lease
    holder = Holder.read(store.read(path))
    if holder is None:
        return None
    if holder.is_here:
        return holder if holder.lives else None
    info = store.look(path)
    written = holder.at, info.mtime.timestamp() if info and info.mtime else 0.0
    fresh = (abs(time.time() - at) < 2 * holder.expires_after_s for at in written)
    return holder if any(fresh) else None


def _expires_after_s() -> float:
    text = os.environ.get("XFERLAB_LEASE_S", str(EXPIRES_AFTER_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"XFERLAB_LEASE_S={text!r}: accepted are seconds, more than 0")
    return seconds


def _machine() -> str:
    """Where a process number is unique: containers of one host share the boot and often the host's name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
