"""What can be known of a worker that wrote nothing, from Ray's errors as it really makes them."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.component  # Ray is imported

LAST = {"pid": 4_000_000, "hostname": "elsewhere", "epoch": 3, "memory_peak_gib": 1.5}


def died(message: str) -> Exception:
    """As Ray raises it where an actor's process or node is gone."""
    from ray.core.generated.common_pb2 import ActorDiedErrorContext
    from ray.exceptions import ActorDiedError

    return ActorDiedError(ActorDiedErrorContext(error_message=message, actor_id=bytes(16)))


@pytest.fixture
def told(tmp_path: Path) -> Any:
    """`told_by` on a host where the kernel kills nobody."""
    from xferlab.schedule.lost import MemoryKills, told_by

    return lambda error, last: told_by(error, last, MemoryKills([tmp_path / "none"]))


def test_rays_own_kill_for_memory_is_of_that_kind(told: Any) -> None:
    from ray.exceptions import OutOfMemoryError

    failure = told(OutOfMemoryError("Task was killed due to the node running low on memory."), LAST)
    assert (failure["kind"], failure["host"], failure["pid"]) == ("memory", "elsewhere", 4_000_000)
    assert (failure["epoch"], failure["memory_peak_gib"]) == (3, 1.5)


def test_a_lost_node_is_told(told: Any) -> None:
    failure = told(died("The actor died because its node has died. Node Id: 12ab"), LAST)
    assert [failure[name] for name in ("type", "kind", "message")] == [
        "WorkerLost",
        "lost",
        "its node was lost",
    ]


def test_rays_guesses_are_no_knowledge(told: Any) -> None:
    guesses = "(1) The process is killed by SIGKILL by OOM killer due to high memory usage. (3) SIGSEGV"
    failure = told(died(guesses), {})
    assert (failure["kind"], failure["signal"], failure["pid"]) == ("lost", None, None)


def test_what_was_raised_is_told_where_it_could_not_be_written(told: Any) -> None:
    from ray.exceptions import RayTaskError

    from xferlab.errors import StorageError

    error = RayTaskError("train", "Traceback (most recent call last):\n  ...", StorageError("full"))
    for raised in (error, error.as_instanceof_cause()):
        failure = told(raised, LAST)
        assert (failure["type"], failure["message"], failure["kind"]) == ("StorageError", "full", "other")
        assert failure["traceback"]


def test_a_kill_by_the_kernel_counts_once_and_on_this_host_only(tmp_path: Path) -> None:
    from xferlab.schedule.lost import MemoryKills, told_by

    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom 7\noom_kill 2\n")
    kills = MemoryKills([tmp_path / "absent", counter])
    here = {**LAST, "hostname": socket.gethostname()}
    kinds = []
    for total, last in [(2, here), (3, here), (3, here), (4, LAST)]:
        counter.write_text(f"low 0\noom 9\noom_kill {total}\n")
        # No worker of this host has that pid: Ray is not running.
        kinds.append(told_by(died("unexpectedly"), {**last, "pid": None}, kills)["kind"])
    assert kinds == ["lost", "memory", "lost", "lost"]
