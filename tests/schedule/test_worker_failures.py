"""What can be known of a worker that wrote nothing, from Ray's errors as it really makes them."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.component  # Ray is imported

LAST = {"pid": 4_000_000, "hostname": "elsewhere", "epoch": 3, "memory_peak_gib": 1.5}


NODE_DIED = "The actor died because its node has died. Node Id: 12ab"


def died(message: str, **context: Any) -> Exception:
    """As Ray raises it where an actor's process or node is gone."""
    from ray.core.generated.common_pb2 import ActorDiedErrorContext
    from ray.exceptions import ActorDiedError

    return ActorDiedError(ActorDiedErrorContext(error_message=message, actor_id=bytes(16), **context))


def preempted() -> Exception:
    """As Ray raises it where a node was drained before it ended, and its message was lost on the way."""
    from ray.core.generated.common_pb2 import NodeDeathInfo

    return died("", node_death_info=NodeDeathInfo(reason=NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED))


@pytest.fixture
def told(tmp_path: Path) -> Any:
    """`classify` on a host where the kernel kills nobody; nodes stay unless a test says so."""
    from xferlab.schedule.worker_failures import MemoryKills, classify

    def tell(error: Any, last: Any, *, left: bool = False) -> Any:
        return classify(error, last, MemoryKills([tmp_path / "none"]), node_left=lambda actor: left)

    return tell


def test_rays_own_kill_for_memory_is_of_that_kind(told: Any) -> None:
    from ray.exceptions import OutOfMemoryError

    failure = told(OutOfMemoryError("Task was killed due to the node running low on memory."), LAST)
    assert (failure["kind"], failure["host"], failure["pid"]) == ("memory", "elsewhere", 4_000_000)
    assert (failure["epoch"], failure["memory_peak_gib"]) == (3, 1.5)


@pytest.mark.parametrize(
    ("reason", "told_as"),
    [
        ("", "its node was lost"),
        ("terminated expectedly: received SIGTERM", "its node was terminated expectedly: received SIGTERM"),
        ("preempted: spot", "its node was preempted: spot"),
        ("terminated unexpectedly: no answer", "its node was terminated unexpectedly: no answer"),
    ],
)  # fmt: skip
def test_a_node_that_went_away_is_no_failure_of_the_trial(told: Any, reason: str, told_as: str) -> None:
    failure = told(died(NODE_DIED + (f"\n\tthe actor's node was {reason}" if reason else "")), LAST)
    assert [failure[name] for name in ("type", "kind", "message")] == ["WorkerLost", "node", told_as]


def test_a_worker_that_is_told_to_end_is_no_failure_of_the_trial(told: Any) -> None:
    exits = "Worker exits unexpectedly. Worker exits with an exit code 1. The process receives a SIGTERM."
    failure = told(died(exits), LAST)
    assert (failure["kind"], failure["message"]) == ("node", "its worker was told to end (SIGTERM)")


def test_a_preempted_node_is_known_without_words(told: Any) -> None:
    failure = told(preempted(), LAST)
    assert (failure["kind"], failure["message"]) == ("node", "its node was preempted")


def test_a_worker_that_vanishes_with_its_node_is_lost_with_it(told: Any) -> None:
    from ray.exceptions import ActorUnavailableError

    closed = ActorUnavailableError("RpcError: Socket closed", bytes(16))
    for error in (closed, died("The actor is dead because its worker process has died.")):
        assert told(error, LAST, left=True)["kind"] == "node"
        assert told(error, LAST, left=False)["kind"] == "lost"


def test_a_worker_that_ray_cannot_start_is_no_failure_of_the_trial(told: Any) -> None:
    from ray.exceptions import ActorUnschedulableError, RuntimeEnvSetupError

    never = died("", never_started=True)
    for error in (RuntimeEnvSetupError("no space"), ActorUnschedulableError("no node"), never):
        failure = told(error, {})
        assert failure["kind"] == "node"
        assert failure["message"].startswith("its worker could not be started: ")


def test_raylets_kill_for_memory_on_a_node_that_goes_is_of_memory(told: Any) -> None:
    from ray.exceptions import OutOfMemoryError

    error = OutOfMemoryError("Task was killed due to the node running low on memory.")
    assert told(error, LAST, left=True)["kind"] == "memory"


def test_rays_guesses_are_no_knowledge(told: Any) -> None:
    guesses = "(1) The process is killed by SIGKILL by OOM killer due to high memory usage. (3) SIGSEGV"
    failure = told(died(guesses), {})
    assert (failure["kind"], failure["signal"], failure["pid"]) == ("lost", None, None)
    assert failure["message"] == (
        "its worker ended without giving a reason; it was probably killed (SIGKILL), for example because "
        "memory ran short"
    )


def test_what_was_raised_is_told_where_it_could_not_be_written(told: Any) -> None:
    from ray.exceptions import RayTaskError

    from xferlab.errors import StorageError

    error = RayTaskError("train", "Traceback (most recent call last):\n  ...", StorageError("full"))
    for raised in (error, error.as_instanceof_cause()):
        failure = told(raised, LAST)
        assert (failure["type"], failure["message"], failure["kind"]) == ("StorageError", "full", "other")
        assert failure["traceback"]


def test_a_kill_by_the_kernel_counts_once_and_on_this_host_only(tmp_path: Path) -> None:
    from xferlab.schedule.worker_failures import MemoryKills, classify

    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom 7\noom_kill 2\n")
    kills = MemoryKills([tmp_path / "absent", counter])
    here = {**LAST, "hostname": socket.gethostname()}
    kinds = []

    def stays(actor_id: str | None) -> bool:
        return False

    for total, last in [(2, here), (3, here), (3, here), (4, LAST)]:
        counter.write_text(f"low 0\noom 9\noom_kill {total}\n")
        # No worker of this host has that pid: Ray is not running.
        kinds.append(classify(died("unexpectedly"), {**last, "pid": None}, kills, node_left=stays)["kind"])
    assert kinds == ["lost", "memory", "lost", "lost"]
