"""What can be known of a worker that ended without writing why: from Ray's error and from its log."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray.exceptions import (
    ActorUnschedulableError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    RuntimeEnvSetupError,
)

from xferlab.schedule import ray_session
from xferlab.schedule.nodes import has_left
from xferlab.trial.failure import Failure, Kind, kind_of, lost

NEVER_RAN = "its worker could not be started"
NO_REASON = (
    "its worker ended without giving a reason; it was probably killed (SIGKILL), for example because memory "
    "ran short"
)
_NOT_MADE = re.compile(r"error raised in its creation task|failed to import on the worker")
_ERROR = re.compile(r"^[\w.]*(?:Error|Exception)\b.*$", re.MULTILINE)
_NODE_REASON = re.compile(r"the actor's node was (.+)")
_SIGNAL = re.compile(r"\*\*\* (SIG[A-Z]+) received")
_LOG_TAIL = 65_536
_OOM_COUNTER = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_OOM_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


class MemoryKills:
    """Whether the kernel has killed a process because memory ran out, on this host or in this container."""

    def __init__(self, counters: Sequence[Path] = _OOM_COUNTERS):
        """Takes files with a line `oom_kill N`; the first that has one counts."""
        self._counters = counters
        self._known = self._count()

    def any_new(self) -> bool:
        """Returns whether there was one since it was last asked."""
        before, self._known = self._known, self._count()
        return self._known > before

    def _count(self) -> int:
        for path in self._counters:
            with suppress(OSError):
                if counter := _OOM_COUNTER.search(path.read_text()):
                    return int(counter[1])
        return 0


def classify(
    error: BaseException | None,
    last: Mapping[str, Any],
    kills: MemoryKills,
    *,
    node_left: Callable[[str | None], bool] = has_left,
) -> Failure:
    """Returns a failure from what Tune says that ended a trial.

    Args:
        error: Ray's error.
        last: The worker's last report: `pid`, `hostname`, `epoch`, `memory_peak_gib`; empty if none came.
        kills: What the kernel did on this host.
        node_left: Tells whether the node of a worker, given by its actor's id, has left the cluster.
    """
    known = {
        "pid": last.get("pid"),
        "host": last.get("hostname"),
        "epoch": last.get("epoch", 0),
        "memory_peak_gib": last.get("memory_peak_gib"),
    }
    if isinstance(error, RayTaskError):
        return _raised(error, known)
    text = str(error)
    if isinstance(error, OutOfMemoryError) or "running low on memory" in text:
        return lost("Ray killed its worker: out of memory, the node was running low", **known)
    if _NOT_MADE.search(text):  # such as where this xferlab is not installed
        return lost(f"{NEVER_RAN}: {(_ERROR.findall(text) or [text])[-1]}", kind=Kind.MACHINE, **known)
    if reason := node_reason(error):
        return lost(reason, kind=Kind.NODE, **known)
    signal = _signal_of(known["pid"], known["host"])
    if signal:
        return lost(f"its worker crashed with {signal}", signal=signal, **known)
    if known["host"] == socket.gethostname() and kills.any_new():
        return lost("the kernel killed its worker: out of memory", signal="SIGKILL", **known)
    if isinstance(error, RayActorError) and node_left(error.actor_id):
        return lost("its node was lost", kind=Kind.NODE, **known)
    return lost(NO_REASON, **known)


def node_reason(error: BaseException | None) -> str:
    """Returns what took a worker from its trial by Ray's error: its node, or a notice; empty if unknown."""
    text = str(error)
    if isinstance(error, ActorUnschedulableError | RuntimeEnvSetupError) or "The actor never ran" in text:
        return f"{NEVER_RAN}: {text.strip().splitlines()[-1]}"
    if "receives a SIGTERM" in text:
        return "its worker was told to end (SIGTERM)"
    if reason := _NODE_REASON.search(text):
        return f"its node was {reason[1]}"
    if isinstance(error, RayActorError) and error.preempted:
        return "its node was preempted"
    return "its node was lost" if "node has died" in text else ""


def _raised(error: RayTaskError, known: Mapping[str, Any]) -> Failure:
    """The failure of an attempt that raised; it should have written its own."""
    cause = error.cause if isinstance(error.cause, BaseException) else error
    name, message = type(cause).__name__, str(cause)
    return {**lost(message, **known), "type": name, "kind": kind_of(name, message), "traceback": str(error)}


def _signal_of(pid: int | None, host: str | None) -> str | None:
    """The signal that a worker on this host died of, where its handler could still write it."""
    if pid is None or host != socket.gethostname():
        return None
    for path in Path(ray_session.logs_dir()).glob(f"worker-*-{pid}.err"):
        tail = path.read_bytes()[-_LOG_TAIL:].decode(errors="replace")
        if received := _SIGNAL.search(tail):
            return received[1]
    return None
