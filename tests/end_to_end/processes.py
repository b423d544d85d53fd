"""Processes below one that a test has started, as /proc tells of them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Collection
from ipaddress import ip_address
from pathlib import Path

from tests.studies import command, environment

LISTENING = "0A"


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


def listening(pid: int) -> set[tuple[str, int]]:
    """Addresses and ports at which a process listens."""
    try:
        links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return set()
    own = {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and fields[9] in own:
                address, _, port = fields[1].partition(":")
                found.add((_address(address), int(port, 16)))
    return found


def _address(words: str) -> str:
    """The kernel prints an address as words of four bytes, each in the order of the machine."""
    packed = b"".join(bytes.fromhex(words[at : at + 8])[::-1] for at in range(0, len(words), 8))
    address = ip_address(packed)
    return str(getattr(address, "ipv4_mapped", None) or address)


def start(
    folder: Path,
    *words: str | Path,
    output: int = subprocess.PIPE,
    preexec_fn: Callable[[], None] | None = None,
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
