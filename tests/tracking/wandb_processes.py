"""The processes of a mirror, found by the folder that stands in their environment; and how to wait."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Value = TypeVar("Value")

WRITER, SERVICE = "writer", "service"
_NAMES = {b"xferlab.tracking.writer": WRITER, b"wandb-core": SERVICE}


def mirror_processes(folder: Path) -> dict[int, str]:
    """Writers and services that are alive and whose W&B files go to a folder, by process id."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:  # it has ended
            continue
        if f"WANDB_CACHE_DIR={folder.resolve()}/cache".encode() in environment:
            found |= {int(process.name): name for part, name in _NAMES.items() if part in command}
    return found


def kill_one(folder: Path, name: str) -> None:
    """Kills the writer or the service of a mirror, as soon as it is there."""
    found = until(lambda: [pid for pid, its in mirror_processes(folder).items() if its == name])
    os.kill(found[0], 9)


def until(condition: Callable[[], Value], *, timeout_s: float = 30.0) -> Value:
    """Returns the first true value of a condition."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s"
        time.sleep(0.02)
    return value
