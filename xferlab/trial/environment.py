"""The process a trial runs in: threads, determinism, memory, and a description of the machine."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from xferlab.errors import MachineError
from xferlab.tasks.config import Execution

if TYPE_CHECKING:
    from xferlab.trial.examples import TrialContext

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_UNCOUNTED_BYTES = 2**29
MAX_KERNELS = 256
"""Of one network: one for each size of a batch and each set of parts that rest. More are an error."""
_DESCRIBED = ("torch", "numpy", "pyarrow", "ray", "scipy", "xferlab")


def prepare(execution: Execution) -> torch.device:
    """Puts the process into the state that a trial's identity names; a reused process may be in any.

    Args:
        execution: `device`, `threads` (CPU), `deterministic` (CUDA) of the identity.

    Raises:
        MachineError: The device is not there, or nothing can be compiled for it.
    """
    device = torch.device(execution.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise MachineError(
            "training.device is cuda, and this worker sees no CUDA device. Give the stage a GPU "
            "(`resources: {gpu: 1}`), start workers with GPUs, or set `training.device: cpu`."
        )
    if execution.compile:
        _try_to_compile(device)
        _forget_kernels()
    if device.type == "cpu":
        keep_freed_memory()
        torch.set_num_threads(execution.threads or 1)
        _be_deterministic(False)  # a trial on CUDA may have run in this process before
        # Writing 5 resets the resident peak (Linux); where that is forbidden, the peak is the process's.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        return device
    deterministic = bool(execution.deterministic)
    # Deterministic trials need it. It is read when a process first multiplies, maybe for another trial.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    _be_deterministic(deterministic)
    # Nothing here reads such memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return device


def _be_deterministic(wanted: bool) -> None:
    # To say so imports PyTorch's compiler, which takes a second.
    if wanted or torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(wanted)


@cache
def _try_to_compile(device: torch.device) -> None:
    """Compiles something small, once in a process: only that tells whether all that it takes is there."""
    import torch._dynamo  # takes seconds

    nothing = torch.zeros(1, device=device)
    try:
        torch.compile(torch.neg, dynamic=False)(nothing)
    except torch._dynamo.exc.TorchDynamoException as error:
        raise MachineError(
            f"training.compile is true, and this machine compiles nothing for {device}: "
            f"{str(error).splitlines()[0]}. It takes a C++ compiler, the headers of Python (Debian: "
            "g++ and python3-dev) and, on a GPU, Triton. Install them, or set `training.compile: false`."
        ) from error


def _forget_kernels() -> None:
    """Drops what was compiled for other trials, which may give other bits than a trial's own kernels would.

    PyTorch stops compiling after eight kernels of a network: which steps then have one would depend on where
    the process began.
    """
    import torch._dynamo  # takes seconds

    torch.compiler.reset()
    torch._dynamo.config.recompile_limit = MAX_KERNELS
    torch._dynamo.config.fail_on_recompile_limit_hit = True


def limit_gpu_memory(share: float) -> None:
    """Lets this process have a share of its GPU's memory, above 0, at most 1; other processes keep the rest.

    What needs more runs out of memory by itself, and not because of what others happened to take. Of a share
    below 1, half a GiB is left to CUDA and its libraries, whose memory PyTorch does not count. Without a GPU
    it does nothing.
    """
    if not share or not torch.cuda.is_available():
        return
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    outside = _UNCOUNTED_BYTES / total if share < 1 else 0.0
    torch.cuda.set_per_process_memory_fraction(max(min(share, 1.0) - outside, share / 2))


@contextmanager
def computing_as(execution: Execution, context: TrialContext) -> Iterator[TrialContext]:
    """Computes as another trial did that trained with `execution`, in the process of a trial.

    Yields:
        The context: on the CPU with as many threads for a trial that trained there, so that all machines get
        the same bits; else the process's own.
    """
    if execution.device != "cpu":
        yield context
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(execution.threads or 1)
    try:
        yield replace(context, device=torch.device("cpu"))
    finally:
        torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """Tells glibc to keep large freed blocks: then activations are not mapped and zeroed again."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def memory_peak_gib(device: torch.device) -> float:
    """Returns the peak since `prepare`: of the device on CUDA, else the process's resident memory."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated()) / 2**30
    return host_memory_peak_gib()


def host_memory_peak_gib() -> float:
    """Returns the peak of the process's resident memory since `prepare`."""
    peak = _first_value("/proc/self/status", "VmHWM").removesuffix("kB")
    return float(peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 2**20


def describe(device: torch.device) -> dict[str, Any]:
    """Returns where a trial runs: device and its name, host, versions."""
    cpu_name = _first_value("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()
    name = torch.cuda.get_device_name() if device.type == "cuda" else cpu_name
    versions = {"python": platform.python_version()}
    for package in _DESCRIBED:
        with suppress(PackageNotFoundError):  # trials need no Ray, and no installation
            versions[package] = version(package)
    return {"device": device.type, "device_name": name, "host": socket.gethostname(), "versions": versions}


def _first_value(path: str, key: str) -> str:
    """Returns the first value of a key in a file of `key: value` lines; empty where there is none."""
    lines = Path(path).read_text().splitlines() if Path(path).exists() else []
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == key), "")
