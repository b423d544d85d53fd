"""The nodes of the connected cluster: what a trial reserves on one, and whether each can do the work."""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from xferlab import __version__
from xferlab.errors import StorageError, XferlabError
from xferlab.plan.spec import TrialSpec
from xferlab.records.store import Store
from xferlab.schedule.ray_session import Access
from xferlab.schedule.watch import listens
from xferlab.trial.failure import Failure, on_device

_ACTOR = re.compile(r"\bactor_id=([0-9a-f]+)")
ANSWER_WITHIN_S = 120.0
GONE_WITHIN_S, ASK_EVERY_S = 2.0, 0.1
"""A node that shuts down may lose its workers first: how long to see whether it follows them."""


@dataclass(frozen=True)
class Mark:
    """A file of a driver in the storage: a node that does not read it cannot do the driver's work.

    Attributes:
        access: To the storage.
        name: Of the file in that storage.
        content: Of the file.
        version: Of the driver's xferlab.
    """

    access: Access
    name: str
    content: str
    version: str = __version__

    @staticmethod
    def write(store: Store, name: str) -> Mark:
        """Writes a mark that no earlier one equals; `store` may be a folder of a storage, as a search has."""
        access = Access.to(store)
        folder = PurePosixPath(store.root).relative_to(access.open().root)
        mark = Mark(access, str(folder / name), secrets.token_hex(32))
        store.write(name, mark.content.encode())
        return mark

    def problem_here(self) -> str:
        """Returns what keeps the node that this runs on from the driver's work; empty if nothing does.

        Raises:
            XferlabError: The storage cannot be opened or read.
        """
        if self.version != __version__:
            return f"it runs xferlab {__version__}, and this is {self.version}"
        stored = self.access.open().read(self.name)
        if stored is None:
            return "it does not see a file that was written there: the folder is another one"
        return "" if stored == self.content.encode() else "it reads another content there"


def check_nodes(store: Store) -> None:
    """Lets every node read a file that was just written to the storage, before any trial takes a worker.

    Raises:
        StorageError: With all nodes that read something else, or run another version of xferlab.
    """
    name = f".xferlab-probe-{secrets.token_hex(8)}"
    try:
        problems = _ask_nodes(Mark.write(store, name))
    finally:
        store.delete(name)
    if lines := sorted(f"  {node}: {problem}" for node, problem in problems.items() if problem):
        raise StorageError(
            f"{len(lines)} of {len(problems)} nodes of the cluster cannot work on storage {store.shown}:\n"
            + "\n".join(lines)
            + "\nAll need the same xferlab and the same storage (a shared folder at the same path, or "
            "s3://...); give it with --storage."
        )


def _ask_nodes(mark: Mark) -> dict[str, str]:
    """Every node, and what is wrong with it; empty if nothing is."""
    tasks = {}
    for node in ray.nodes():
        if node["Alive"]:
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy)(_problem)
            shown = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}:{node['NodeManagerPort']})"
            tasks[shown] = task.remote(mark)
    ray.wait(list(tasks.values()), num_returns=len(tasks), timeout=ANSWER_WITHIN_S)
    return {node: _answer(task) for node, task in tasks.items()}


def _problem(mark: Mark) -> str:
    try:
        return mark.problem_here()
    except XferlabError as error:
        return str(error)


def _answer(task: Any) -> str:
    try:
        return str(ray.get(task, timeout=0))
    except ray.exceptions.GetTimeoutError:
        return f"no answer within {ANSWER_WITHIN_S:g} s"
    except ray.exceptions.RayError as error:  # another xferlab, or none: the task itself cannot be loaded
        return str(error).strip().splitlines()[-1]


def place_of(error: BaseException | None) -> dict[str, str]:
    """Returns `node`, the id, and `hostname` of where an error ended a worker; empty if it tells neither.

    A worker that ends before its first report, such as where this xferlab is not installed, does not say.
    """
    actor_id = error.actor_id if isinstance(error, ray.exceptions.RayActorError) else None
    if isinstance(error, ray.exceptions.RayTaskError) and (told := _ACTOR.search(str(error))):
        actor_id = told[1]
    node_id = _node_of(actor_id)
    hosts = {node["NodeID"]: str(node["NodeManagerHostname"]) for node in ray.nodes()} if node_id else {}
    return {"node": node_id, "hostname": hosts[node_id]} if node_id in hosts else {}


def _node_of(actor_id: str | None) -> str:
    actor = ray._private.state.actors(actor_id) if actor_id else {}
    return str(actor.get("Address", {}).get("NodeID", ""))


def has_left(actor_id: str | None) -> bool:
    """Returns whether the node of a lost worker has left the cluster, is about to, or answers no more.

    Ray itself learns of a crashed node only after some failed health checks.

    Args:
        actor_id: The worker's, in hexadecimal digits; None if it is not known.
    """
    node_id = _node_of(actor_id)
    deadline = time.monotonic() + GONE_WITHIN_S
    while node_id and is_there(node_id):
        if time.monotonic() > deadline:
            return False
        time.sleep(ASK_EVERY_S)
    return bool(node_id)


def is_there(node_id: str) -> bool:
    """Returns whether a node is in the cluster, is to stay, and answers."""
    if node_id in ray._private.state.state.get_draining_nodes():
        return False
    for node in ray.nodes():
        if node["NodeID"] == node_id and node["Alive"]:
            return listens((node["NodeManagerAddress"], node["NodeManagerPort"]), timeout_s=GONE_WITHIN_S)
    return False


def unmet_resources(trials: Sequence[TrialSpec]) -> str:
    """Returns what trials ask for that no live node of the cluster has: they would wait; empty if none."""
    nodes = _nodes()
    for trial in trials:
        wanted = bundle(trial)
        if not any(_has(node, wanted) for node in nodes):
            if "GPU" in wanted and not any(node.get("GPU") for node in nodes):
                return (
                    f"stage {trial.stage!r} trains on cuda, and Ray finds no GPU on any node (it asks for "
                    f"{wanted}). Set training.device to cpu, or add a node with a GPU and its driver."
                )
            largest = {kind: max(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU")}
            return (
                f"stage {trial.stage!r} asks for {wanted}, and no node has that (largest: {largest}). "
                "Lower `resources` in the study, or add nodes."
            )
    return ""


def each_core_gets_one(trials: Sequence[TrialSpec], num_cores: int) -> bool:
    """Whether each core of a machine will have one of these trials, if all run side by side that can."""
    is_small = all(wanted["CPU"] <= 1 and "GPU" not in wanted for wanted in map(bundle, trials))
    return is_small and len(trials) >= num_cores


def num_slots(trial: TrialSpec) -> int:
    """Returns how many trials like this one the cluster can run side by side now, at least one."""
    wanted = bundle(trial).items()
    return max(1, sum(min(int(node.get(kind, 0.0) / amount) for kind, amount in wanted) for node in _nodes()))


def has_other(trial: TrialSpec, besides: Collection[str], known: Sequence[Any] | None = None) -> bool:
    """Returns whether a node of the cluster that is not among some has what a trial reserves.

    Args:
        trial: The trial.
        besides: Ids of these nodes.
        known: What Ray says of all nodes; None to ask it.
    """
    wanted = bundle(trial)
    return any(_has(node, wanted) for node in _nodes(besides, known))


def bundle(
    trial: TrialSpec, alone: Failure | None = None, *, besides: Collection[str] = ()
) -> dict[str, float]:
    """Returns what a trial reserves on a node that is not among some.

    After it ran out of memory (`alone` is that failure) nothing else fits beside it: it reserves a whole GPU
    if the GPU's memory ran out, else all CPUs of the largest node that may run it.
    """
    resources = trial.settings.resources
    wanted = {"CPU": resources.cpu}
    if trial.gpus:  # without a reservation Ray hides all GPUs from the worker
        wanted["GPU"] = trial.gpus
    if resources.memory_gib:
        wanted["memory"] = resources.memory_gib * 2**30
    if alone is None:
        return wanted
    if "GPU" in wanted and on_device(alone):
        return {**wanted, "GPU": float(math.ceil(wanted["GPU"]))}
    return {
        **wanted,
        "CPU": max([wanted["CPU"], *(node["CPU"] for node in _nodes(besides) if _has(node, wanted))]),
    }


def _nodes(besides: Collection[str] = (), known: Sequence[Any] | None = None) -> list[dict[str, float]]:
    """Resources of the nodes that are alive and not among some, given by their ids."""
    alive = [node for node in (ray.nodes() if known is None else known) if node["Alive"]]
    return [node["Resources"] for node in alive if not besides or node["NodeID"] not in besides]


def _has(node: dict[str, float], wanted: dict[str, float]) -> bool:
    return all(node.get(kind, 0.0) >= amount for kind, amount in wanted.items())
