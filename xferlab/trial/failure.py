"""What ended an attempt: one small record, and what kind of failure it is.

`failure.json` is this record. Executors act on its `kind`, never on what a worker says.
"""

from __future__ import annotations

import os
import re
import resource
import socket
import traceback
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from xferlab.errors import DataError, DonorError, MachineError, PluginError, TaskError, TrainingError

HOPELESS = (TrainingError, TaskError)
"""Failures that the same spec meets again: not retried."""
LACKING = (DataError, DonorError, MachineError, PluginError)
"""Failures that the same spec meets again on the same machine, such as a folder that is not mounted there."""


class Kind(StrEnum):
    """What a failure says about the next attempt."""

    MEMORY = "memory"
    """Too little memory, of the host or of the device: worth an attempt alone."""
    DEVICE = "device"
    """The accelerator's context is broken: worth an attempt in another process."""
    MACHINE = "machine"
    """The machine lacks something, such as a folder of images, a package or a device: worth an attempt on
    another one, not on this."""
    HOPELESS = "hopeless"
    """The same spec meets it again."""
    LOST = "lost"
    """The worker was killed or crashed before it could say why."""
    NODE = "node"
    """The worker's node went away (preempted, stopped, lost), or the worker was told to end or never started:
    nothing that the trial did."""
    OTHER = "other"
    """Anything else, such as a storage that was away for a while."""


Failure = dict[str, Any]
"""`type`, `kind`, `message`, `traceback` (empty where there is none), `signal` (None where it is not known),
`memory_peak_gib` (None where it is not known), `host`, `pid` (None where it is not known), `epoch` (the last
that was finished), `when` (ISO 8601, UTC)."""

_MEMORY_TYPES = {"MemoryError", "_ArrayMemoryError", "OutOfMemoryError", "ArrowMemoryError"}
_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|out of memory|not enough memory|running low on memory|"
    r"_ALLOC(ATION)?_FAILED",
    re.IGNORECASE,
)
_DEVICE_TYPES = {"AcceleratorError"}
_DEVICE = re.compile(
    r"\b(CUDA|cuDNN|CUDNN|CUBLAS|cuBLAS|cuFFT)[ _](error|STATUS)|CUDA driver error|Triton Error \[CUDA\]|"
    r"device-side assert"
)
_DIGITS = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d+")


def kind_of(type_name: str, message: str) -> Kind:
    """Returns the kind of an error from the name of its type and its message."""
    if type_name in _names(HOPELESS):
        return Kind.HOPELESS
    if type_name in _names(LACKING):
        return Kind.MACHINE
    if type_name in _MEMORY_TYPES or _MEMORY.search(message):
        return Kind.MEMORY
    if type_name in _DEVICE_TYPES or _DEVICE.search(message):
        return Kind.DEVICE
    return Kind.LOST if type_name == "WorkerLost" else Kind.OTHER


def on_device(failure: Mapping[str, Any]) -> bool:
    """Returns whether memory ran out on the accelerator rather than on the host."""
    return bool(re.search(r"CUDA|CUDNN|CUBLAS|HIP", f"{failure['type']} {failure['message']}"))


def described(error: BaseException, *, epoch: int) -> Failure:
    """Returns the record of an error that is being handled in the process that it ended."""
    name, message = type(error).__name__, str(error)
    return lost(
        message,
        type=name,
        kind=kind_of(name, message),
        traceback="".join(traceback.format_exception(error)),
        memory_peak_gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        host=socket.gethostname(),
        pid=os.getpid(),
        epoch=epoch,
    )


def lost(message: str, **known: Any) -> Failure:
    """Returns the record of a worker that could not write its own; `known` are facts that somebody else has.

    A message that says that memory ran out makes it a failure of that kind.
    """
    return {
        "type": "WorkerLost",
        "kind": kind_of("WorkerLost", message),
        "message": message,
        "traceback": "",
        "signal": None,
        "memory_peak_gib": None,
        "host": "an unknown host",
        "pid": None,
        "epoch": 0,
        "when": now(),
        **{name: value for name, value in known.items() if value is not None},
    }


def signature(failure: Mapping[str, Any], *names: str) -> str:
    """Returns what is equal for one error met twice: type and message without digits, ids, and `names`."""
    text = str(failure["message"])
    for name in names:
        text = text.replace(name, "#")
    return f"{failure['type']}: {_DIGITS.sub('#', text)}"


def now() -> str:
    """Returns this second, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _names(types: Iterable[type]) -> set[str]:
    """Names of types and of all that are derived from them."""
    return {name for kind in types for name in (kind.__name__, *_names(kind.__subclasses__()))}
