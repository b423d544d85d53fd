"""Processes below one that a test has started, as /proc tells of them."""

from __future__ import annotations

import importlib
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from tests.studies import command, environment

MADE_BY_RAY = re.compile(r"^\(|^\[20|raylet|gcs_client|Traceback", re.MULTILINE)
"""Lines that Ray prints by itself, such as `(raylet) ...` of a lost node, and tracebacks."""


def command_of(pid: int) -> str:
    """The command line of a process; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def program(pid: int) -> str:
    """The file name of what a process runs."""
    return Path(command_of(pid).partition(" ")[0]).name


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until_gone(pids: Collection[int], *, within_s: float) -> float:
    """Waits until none of some processes is alive; returns how long it took."""
    began = time.monotonic()
    while left := [pid for pid in pids if alive(pid)]:
        if time.monotonic() - began > within_s:
            raise AssertionError({pid: command_of(pid)[:120] for pid in left})
        time.sleep(0.05)
    return time.monotonic() - began


def free_port() -> int:
    """A port of the loopback address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(pid: int) -> set[tuple[str, int]]:
    """Addresses and ports at which a process listens."""
    importlib.import_module("ray")  # which brings psutil
    psutil: Any = importlib.import_module("psutil")
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return set()
    addresses = [connection.laddr for connection in connections if connection.status == "LISTEN"]
    return {(address.ip.removeprefix("::ffff:"), address.port) for address in addresses}


def hear_hang_up() -> None:
    """Undoes `nohup`, under which the tests may run: it makes all processes below it deaf to SIGHUP."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def start(
    folder: Path,
    *words: str | Path,
    output: int = subprocess.PIPE,
    preexec_fn: Callable[[], None] = hear_hang_up,
) -> subprocess.Popen[str]:
    """Starts the command line in a process group of its own."""
    return subprocess.Popen(
        command(*words), env=environment(folder), cwd=folder, stdout=output, stderr=output, text=True,
        start_new_session=True, preexec_fn=preexec_fn,
    )  # fmt: skip


def until_training(
    storage: Path, process: subprocess.Popen[str], *, has: str = "checkpoint/state-*", least_bytes: int = 1
) -> None:
    """Waits until a trial has a checkpoint, or another file that grows while it trains."""

    def is_training() -> bool:
        return any(path.stat().st_size >= least_bytes for path in storage.glob(f"trials/*/{has}"))

    eventually(is_training, process)


def eventually(
    holds: Callable[[], object], process: subprocess.Popen[str], *, within_s: float = 120.0
) -> None:
    """Waits until something holds, while the process lives."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
