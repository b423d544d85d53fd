"""What trials and searches share of Ray: joining or starting a cluster, what a trial reserves, scratch files.

Ray is imported here, in `ray_tune`, `tune` and `lost`, and nowhere else.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.tune import Stopper

from xferlab.errors import StorageError, UsageError
from xferlab.plan.spec import TrialSpec
from xferlab.records.store import Store
from xferlab.trial.failure import Failure, on_device

# Read when a cluster or a Tune run starts: no phoning home, no loggers beside our records, no snapshots of a
# state that nobody reads; signals are ours.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "86400")
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "64")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")

PROBE_S = 5.0


@contextmanager
def cluster(address: str | None, *, num_cpus: int | None = None) -> Iterator[None]:
    """Joins the cluster at `address`, or starts one on this machine, for the time of the context.

    Raises:
        UsageError: There is no cluster at the address.
    """
    options: dict[str, Any] = (
        {"address": address} if address else {"num_cpus": num_cpus, "include_dashboard": False}
    )
    if address is None:
        options["address"] = "local"
    else:
        _probe(address)
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, configure_logging=True, **options)
    except ConnectionError as error:
        raise _no_cluster(address, f"{error}; a cluster with a token needs RAY_AUTH_MODE=token") from error
    try:
        yield
    finally:
        ray.shutdown()


def _probe(address: str) -> None:
    """Finds out at once that nobody listens there; Ray tries for minutes, then ends the process."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise _no_cluster(address, "an address is host:port")
    try:
        socket.create_connection((host, int(port)), timeout=PROBE_S).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str | None, why: str) -> UsageError:
    return UsageError(
        f"--address {address}: no Ray cluster answers ({why}). Give the address that "
        "`ray start --head` printed, `auto` on a node of the cluster, or leave it out to run here."
    )


def unmet_resources(trials: list[TrialSpec]) -> str:
    """Returns what trials ask for that no live node of the cluster has: they would wait; empty if none."""
    nodes = _nodes()
    for trial in trials:
        wanted = bundle(trial)
        if not any(_has(node, wanted) for node in nodes):
            largest = {kind: max(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU")}
            return (
                f"stage {trial.stage!r} asks for {wanted}, and no node has that (largest: {largest}). "
                "Lower `resources` in the study, or add nodes."
            )
    return ""


def bundle(trial: TrialSpec, alone: Failure | None = None) -> dict[str, float]:
    """Returns what a trial reserves.

    After a failure for want of memory nothing else fits beside it: a whole GPU where that ran out, else all
    CPUs of the largest node that may run it.
    """
    resources = trial.settings["resources"]
    wanted = {"CPU": float(resources["cpu"])}
    if trial.identity["execution"]["device"] == "cuda":
        # Without a reservation Ray hides all GPUs from the worker: a study that names none gets a whole one.
        wanted["GPU"] = float(resources["gpu"]) or 1.0
    if resources["memory_gib"]:
        wanted["memory"] = float(resources["memory_gib"]) * 2**30
    if alone is None:
        return wanted
    if "GPU" in wanted and on_device(alone):
        return {**wanted, "GPU": float(math.ceil(wanted["GPU"]))}
    return {**wanted, "CPU": max([wanted["CPU"], *(node["CPU"] for node in _nodes() if _has(node, wanted))])}


def _nodes() -> list[dict[str, float]]:
    """Resources of the nodes that are alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _has(node: dict[str, float], wanted: dict[str, float]) -> bool:
    return all(node.get(kind, 0.0) >= amount for kind, amount in wanted.items())


def scratch_storage(store: Store, scratch: str) -> dict[str, Any]:
    """Where Tune keeps its scratch files: beside the records if other nodes must see them, else nowhere."""
    if len([node for node in ray.nodes() if node["Alive"]]) == 1:
        return {"storage_path": scratch}
    return {"storage_path": store.path("tune"), "storage_filesystem": store.filesystem}


def logs_dir() -> str:
    """Returns the folder of the logs of the workers on this machine."""
    return str(ray._private.worker._global_node.get_logs_dir_path())


class NeverRestored:
    """Tune pickles its parts to restore them; ours live in the driver alone, and nothing is restored."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return object, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


class StopWhen(NeverRestored, Stopper):  # type: ignore[misc]
    """Ends a Tune run as soon as a condition holds; Tune asks several times a second."""

    def __init__(self, condition: Callable[[], bool]):
        """Takes the condition."""
        self._condition = condition

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Returns False: no trial is stopped for its results."""
        return False

    def stop_all(self) -> bool:
        """Returns whether to end the run."""
        return self._condition()


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Tune's tables and advice off the terminal: the live view tells what matters."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.air")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OSError as error:
        raise StorageError(f"Ray Tune cannot use its scratch folder: {error}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
