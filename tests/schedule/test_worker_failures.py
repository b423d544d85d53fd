"""What can be known of a worker that wrote nothing, from Ray's errors as it really makes them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.component  # Ray is imported

LAST = {"pid": 4_000_000, "hostname": "elsewhere", "epoch": 3, "memory_peak_gib": 1.5}
NODE_DIED = "The actor died because its node has died. Node Id: 12ab"
EXITS = "Worker exits unexpectedly. Worker exits with an exit code 1. The process receives a SIGTERM."
GUESSES = "(1) The process is killed by SIGKILL by OOM killer due to high memory usage. (3) SIGSEGV"
KILLED = (
    "its worker ended without giving a reason; it was probably killed (SIGKILL), for example because memory "
    "ran short"
)


def died(message: str, **context: Any) -> Exception:
    """As Ray raises it where an actor's process or node is gone."""
    from ray.core.generated.common_pb2 import ActorDiedErrorContext
    from ray.exceptions import ActorDiedError

    return ActorDiedError(ActorDiedErrorContext(error_message=message, actor_id=bytes(16), **context))


def node_died(reason: str = "") -> Exception:
    return died(NODE_DIED + (f"\n\tthe actor's node was {reason}" if reason else ""))


def preempted() -> Exception:
    """As Ray raises it where a node was drained before it ended, and its message was lost on the way."""
    from ray.core.generated.common_pb2 import NodeDeathInfo

    return died("", node_death_info=NodeDeathInfo(reason=NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED))


NOT_IMPORTED = """Worker exits unexpectedly. Worker exits with an exit code None.
RuntimeError: The actor with name ImplicitFunc failed to import on the worker. This may be because

  File "xferlab.py", line 1, in <module>
ModuleNotFoundError: No module named 'xferlab'

An unexpected internal error occurred while the worker was executing a task.
"""
NOT_CREATED = """The actor died because of an error raised in its creation task, ray::ImplicitFunc.__init__()
OSError: [Errno 28] No space left on device: 'tune'"""


def out_of_memory() -> Exception:
    from ray.exceptions import OutOfMemoryError

    return OutOfMemoryError("Task was killed due to the node running low on memory.")


def never_started(kind: str) -> Exception:
    from ray.exceptions import ActorUnschedulableError, RuntimeEnvSetupError

    if kind == "actor":
        return died("", never_started=True)
    return RuntimeEnvSetupError("no space") if kind == "environment" else ActorUnschedulableError("no node")


@pytest.fixture
def classified(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`classify` on a host where the kernel kills nobody; nodes stay unless a test says so."""
    from xferlab.schedule.worker_failures import MemoryKills, classify

    def classified(error: Any, last: Any = LAST, *, left: bool = False) -> dict[str, Any]:
        return classify(error, last, MemoryKills([tmp_path / "none"]), node_left=lambda actor: left)

    return classified


Classified = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("left", [False, True])
def test_rays_own_kill_for_memory_is_of_that_kind_even_on_a_node_that_goes(
    classified: Classified, left: bool
) -> None:
    failure = classified(out_of_memory(), left=left)
    assert (failure["kind"], failure["host"], failure["pid"]) == ("memory", "elsewhere", 4_000_000)
    assert (failure["epoch"], failure["memory_peak_gib"]) == (3, 1.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (node_died, "its node was lost"),
        (
            lambda: node_died("terminated expectedly: received SIGTERM"),
            "its node was terminated expectedly: received SIGTERM",
        ),
        (lambda: node_died("preempted: spot"), "its node was preempted: spot"),
        (
            lambda: node_died("terminated unexpectedly: no answer"),
            "its node was terminated unexpectedly: no answer",
        ),
        (lambda: died(EXITS), "its worker was told to end (SIGTERM)"),
        (preempted, "its node was preempted"),
        (lambda: never_started("environment"), "its worker could not be started: "),
        (lambda: never_started("placement"), "its worker could not be started: "),
        (lambda: never_started("actor"), "its worker could not be started: "),
    ],
)
def test_a_node_that_goes_away_is_no_failure_of_the_trial(
    classified: Classified, make: Callable[[], Exception], message: str
) -> None:
    failure = classified(make())
    assert (failure["type"], failure["kind"]) == ("WorkerLost", "node")
    assert failure["message"].startswith(message)
    assert failure["message"] == message or message.endswith(": ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (NOT_IMPORTED, "ModuleNotFoundError: No module named 'xferlab'"),
        (NOT_CREATED, "OSError: [Errno 28] No space left on device: 'tune'"),
    ],
)
def test_a_machine_lacks_something_on_which_a_worker_cannot_be_made(
    classified: Classified, text: str, reason: str
) -> None:
    failure = classified(died(text), {})
    assert (failure["type"], failure["kind"]) == ("WorkerLost", "machine")
    assert failure["message"] == f"its worker could not be started: {reason}"


def test_a_worker_that_vanishes_with_its_node_is_lost_with_it(classified: Classified) -> None:
    from ray.exceptions import ActorUnavailableError

    closed = ActorUnavailableError("RpcError: Socket closed", bytes(16))
    for error in (closed, died("The actor is dead because its worker process has died.")):
        assert classified(error, left=True)["kind"] == "node"
        assert classified(error, left=False)["kind"] == "lost"


def test_rays_guesses_are_no_knowledge(classified: Classified) -> None:
    failure = classified(died(GUESSES), {})
    assert (failure["kind"], failure["signal"], failure["pid"]) == ("lost", None, None)
    assert failure["message"] == KILLED


def test_what_was_raised_is_told_where_it_could_not_be_stored(classified: Classified) -> None:
    from ray.exceptions import RayTaskError

    from xferlab.errors import StorageError

    error = RayTaskError("train", "Traceback (most recent call last):\n  ...", StorageError("full"))
    for raised in (error, error.as_instanceof_cause()):
        failure = classified(raised)
        assert (failure["type"], failure["message"], failure["kind"]) == ("StorageError", "full", "other")
        assert failure["traceback"]


def test_a_kill_by_the_kernel_counts_once_and_on_this_host_only(tmp_path: Path) -> None:
    from xferlab.schedule.worker_failures import MemoryKills, classify

    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom 7\noom_kill 2\n")
    kills = MemoryKills([tmp_path / "absent", counter])
    here = {**LAST, "hostname": socket.gethostname()}
    kinds = []
    for total, last in [(2, here), (3, here), (3, here), (4, LAST)]:
        counter.write_text(f"low 0\noom 9\noom_kill {total}\n")
        # No worker of this host has that pid: Ray is not running.
        last = {**last, "pid": None}
        kinds.append(classify(died("unexpectedly"), last, kills, node_left=lambda actor: False)["kind"])
    assert kinds == ["lost", "memory", "lost", "lost"]
