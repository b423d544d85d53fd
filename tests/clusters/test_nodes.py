"""Real raylets that come and go while a study runs: nothing is lost, equal bytes."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.end_to_end.processes import MADE_BY_RAY, eventually
from tests.studies import (
    TINY,
    attempts,
    command,
    environment,
    noise,
    outcomes,
    recorded,
    undisturbed,
    write_pack,
    write_study,
)

pytestmark = pytest.mark.slow
needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare for a node's own view"
)

WITHIN_S, NOTICE_S = 120.0, 1.0
LONG: dict[str, Any] = {
    "training": {**TINY["training"], "max_epochs": 60, "patience": 60, "checkpoint_every_s": 0.05},
    "stages": {"general": {"data": "general", "repetitions": 2, "evaluate_on": ["general.test"]}},
    "arms": {"a": {}},
}

ONE = {"repetitions": 1, "stages": {"general": {**LONG["stages"]["general"], "repetitions": 1}}}


@pytest.fixture
def started() -> Iterator[Callable[[], Any]]:
    """Starts clusters with a head that runs no trials; none outlives the test."""
    cluster_utils = importlib.import_module("ray.cluster_utils")
    clusters = []

    def start() -> Any:
        cluster = cluster_utils.Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        clusters.append(cluster)
        return cluster

    yield start
    for cluster in clusters:
        cluster.shutdown()


@contextmanager
def driver(
    folder: Path, study: Path, storage: Path, cluster: Any, *, verb: str = "run", more: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """`xferlab run` or another verb on a cluster that runs already."""
    with subprocess.Popen(
        command(verb, study, "--storage", storage, "--address", cluster.address, *more),
        env=environment(folder), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def parent_of(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def raylet_of(node: Any) -> int:
    """Process of a node's raylet, the parent of its workers."""
    (raylet,) = node.all_processes["raylet"]
    return int(raylet.process.pid)


def running_on(node: Any, storage: Path) -> list[tuple[str, int]]:
    """Trials, and their processes, whose last attempt is on a node."""
    last = [(trial, tries[-1]["pid"]) for trial, tries in attempts(storage).items()]
    return [(trial, pid) for trial, pid in last if parent_of(pid) == raylet_of(node)]


def kill(node: Any, storage: Path) -> None:
    """SIGKILL to a node: its raylet and its workers, at once."""
    workers = [pid for _, pid in running_on(node, storage)]
    for pid in [raylet_of(node), *workers]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def drain(node: Any, cluster: Any, process: subprocess.Popen[str]) -> None:
    """Announces the end of a node, as a cloud's notice of preemption does; when the time is up, it ends."""
    ray: Any = importlib.import_module("ray")
    reasons: Any = importlib.import_module("ray.core.generated.autoscaler_pb2")
    reason = reasons.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline_ms = int(1000 * (time.time() + NOTICE_S))
    client = ray._raylet.GcsClient(address=cluster.address)
    assert client.drain_node(node.node_id, reason, "spot instance", deadline_ms)[0]
    eventually(lambda: 1000 * time.time() > deadline_ms, process)
    os.kill(raylet_of(node), signal.SIGTERM)


@pytest.fixture
def lacking(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Starts nodes of one core to which folders are empty; yields the process by whose view they are so."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(cluster: Any, *folders: Path) -> int:
        script = 'for folder in "$@"; do mount -t tmpfs none "$folder" || exit; done\n'
        script += f"exec ray start --address {cluster.address} --num-cpus 1 --block"
        own = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        words = [*own, "sh", "-c", script, "sh", *map(str, folders)]
        with (tmp_path / f"node-{len(processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                words, env={**environment(tmp_path), "PATH": path}, stdout=log, stderr=log
            )
        processes.append(process)
        return process.pid

    yield start
    for process in processes:
        process.kill()
        process.wait()


def with_images(folder: Path) -> dict[str, Any]:
    """What `write_study` changes for a study of images in a folder."""
    pairs = [
        (noise(seed, 32), np.full((32, 32), 255, np.uint8) * (np.arange(32) > seed)) for seed in range(12)
    ]
    return {**LONG, "data": {"general": {"source": "manifest", "root": str(write_pack(folder, pairs))}}}


def failures(storage: Path) -> list[str]:
    return [json.loads(path.read_text())["type"] for path in storage.glob("trials/*/failure.json")]


def has_checkpoint(storage: Path, trial_id: str) -> bool:
    return any((storage / "trials" / trial_id / "checkpoint").glob("state-*"))


def held_on(node: Any, storage: Path, process: subprocess.Popen[str]) -> tuple[str, int]:
    """Stops the worker on a node once its trial has a checkpoint; returns the trial and the worker."""
    eventually(lambda: running_on(node, storage), process)
    ((trial, worker),) = running_on(node, storage)
    eventually(lambda: has_checkpoint(storage, trial), process)
    os.kill(worker, signal.SIGSTOP)
    return trial, worker


def test_a_node_that_comes_is_used_and_what_ran_on_a_lost_one_goes_on_elsewhere(
    tmp_path: Path, started: Callable[[], Any]
) -> None:
    study, storage, cluster = write_study(tmp_path, **LONG), tmp_path / "st", started()
    first = cluster.add_node(num_cpus=1)
    with driver(tmp_path, study, storage, cluster) as process:
        eventually(lambda: running_on(first, storage), process)
        ((victim, worker),) = running_on(first, storage)
        eventually(lambda: has_checkpoint(storage, victim), process)
        # Without it a worker's memory grows; a node that was started by others does not have it by itself.
        assert b"MALLOC_ARENA_MAX=1" in Path(f"/proc/{worker}/environ").read_bytes()
        os.kill(worker, signal.SIGSTOP)  # it holds its node's only core
        second = cluster.add_node(num_cpus=1)
        eventually(lambda: running_on(second, storage), process)
        kill(first, storage)
        out, err = process.communicate(timeout=2 * WITHIN_S)
    assert process.returncode == 0, err
    assert "all 2 trials complete" in out
    assert not MADE_BY_RAY.findall(out + err), out + err
    ended = outcomes(storage)
    print(ended)
    assert ended.pop(victim) == ["killed", "complete"]
    assert list(ended.values()) == [["complete"]]
    assert recorded(storage) == undisturbed(tmp_path, study)


@needs_namespaces
@pytest.mark.parametrize(("lacks", "error"), [("images", "DataError"), ("st", "MachineError")])
def test_a_node_that_lacks_a_folder_costs_no_trial_even_if_nothing_is_tried_again(
    tmp_path: Path, started: Callable[[], Any], lacking: Callable[..., int], lacks: str, error: str
) -> None:
    three = {"stages": {"general": {**LONG["stages"]["general"], "repetitions": 3}}}
    study = write_study(tmp_path, **{**with_images(tmp_path / "images"), **three}, retries=0)
    storage, cluster = tmp_path / "st", started()
    good = cluster.add_node(num_cpus=1)
    with driver(tmp_path, study, storage, cluster) as process:
        _, worker = held_on(good, storage, process)  # until the other node has met both other trials
        lacking(cluster, tmp_path / lacks, tmp_path / "cache")
        eventually(lambda: failures(storage) == [error] * 2, process)
        os.kill(worker, signal.SIGCONT)
        out, err = process.communicate(timeout=2 * WITHIN_S)
    assert process.returncode == 0, out + err
    assert out.count("it is tried again, not on ") == 2
    assert recorded(storage) == undisturbed(tmp_path, study)


@pytest.mark.parametrize(
    ("xferlab", "reason"),
    [
        ("import os\nos._exit(1)\n", "its worker could not be started: The actor never ran"),
        ("raise ImportError('another one')\n", "its worker could not be started: ImportError: another one;"),
    ],
)
def test_a_retry_avoids_a_node_whose_workers_end_before_they_report(
    tmp_path: Path, started: Callable[[], Any], xferlab: str, reason: str
) -> None:
    study, storage, cluster = write_study(tmp_path, **LONG, retries=1), tmp_path / "st", started()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "xferlab.py").write_text(xferlab)
    good = cluster.add_node(num_cpus=1)
    with driver(tmp_path, study, storage, cluster) as process:
        _, worker = held_on(good, storage, process)
        cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(tmp_path / "other")})
        eventually(lambda: failures(storage) == ["WorkerLost"], process)
        os.kill(worker, signal.SIGCONT)
        out, err = process.communicate(timeout=2 * WITHIN_S)
    assert process.returncode == 0, out + err
    (line,) = [line for line in out.splitlines() if f"tried again, not on {socket.gethostname()}" in line]
    assert f"WorkerLost: {reason}" in line
    assert recorded(storage) == undisturbed(tmp_path, study)


@needs_namespaces
def test_a_trial_waits_for_another_node_only_while_there_is_one(
    tmp_path: Path, started: Callable[[], Any], lacking: Callable[..., int]
) -> None:
    images = tmp_path / "images"
    study, storage, cluster = write_study(tmp_path, **with_images(images)), tmp_path / "st", started()
    good = cluster.add_node(num_cpus=1)
    with driver(tmp_path, study, storage, cluster) as process:
        trial, _ = held_on(good, storage, process)
        viewer = lacking(cluster, images, tmp_path / "cache")
        eventually(lambda: failures(storage) == ["DataError"], process)
        subprocess.run(
            ["nsenter", f"--mount=/proc/{viewer}/ns/mnt", "umount", images], check=True, timeout=30
        )
        kill(good, storage)
        out, err = process.communicate(timeout=2 * WITHIN_S)
    assert process.returncode == 0, out + err
    ended = outcomes(storage)
    assert ended.pop(trial) == ["killed", "complete"]
    assert list(ended.values()) == [["failed", "complete"]]
    assert recorded(storage) == undisturbed(tmp_path, study)


def test_nodes_that_are_drained_stopped_or_killed_cost_no_retry(
    tmp_path: Path, started: Callable[[], Any]
) -> None:
    study, storage, cluster = write_study(tmp_path, **{**LONG, **ONE}, retries=0), tmp_path / "st", started()
    node = cluster.add_node(num_cpus=1)
    with driver(tmp_path, study, storage, cluster) as process:
        ends: list[Callable[[Any], None]] = [
            lambda node: drain(node, cluster, process),
            lambda node: os.kill(raylet_of(node), signal.SIGTERM),
            lambda node: kill(node, storage),
        ]
        for end in ends:
            held_on(node, storage, process)  # it does not end before its node does
            end(node)
            node = cluster.add_node(num_cpus=1)
        out, err = process.communicate(timeout=2 * WITHIN_S)
    assert process.returncode == 0, out + err
    reasons = [line.partition("WorkerLost: ")[2] for line in out.splitlines() if "tried again" in line]
    assert reasons == [
        "its node was preempted: spot instance; it is tried again",
        "its node was terminated expectedly: received SIGTERM; it is tried again",
        "its node was lost; it is tried again",
    ]
    assert list(outcomes(storage).values()) == [["killed", "killed", "killed", "complete"]]
    assert recorded(storage) == undisturbed(tmp_path, study)


def test_a_lost_head_ends_the_run_and_a_rerun_on_another_cluster_goes_on(
    tmp_path: Path, started: Callable[[], Any]
) -> None:
    study, storage, cluster = write_study(tmp_path, **LONG), tmp_path / "st", started()
    node = cluster.add_node(num_cpus=2)
    with driver(tmp_path, study, storage, cluster) as process:
        eventually(lambda: len(running_on(node, storage)) == 2, process)
        trials = dict(running_on(node, storage))
        eventually(lambda: all(has_checkpoint(storage, trial) for trial in trials), process)
        for pid in trials.values():
            os.kill(pid, signal.SIGSTOP)  # nothing is finished before the head is lost
        cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        kill(node, storage)
        out, err = process.communicate(timeout=2 * WITHIN_S)
    assert (process.returncode, "Traceback" in err) == (75, False), out + err
    print(err.splitlines()[-1])
    again = started()
    again.add_node(num_cpus=2)
    with driver(tmp_path, study, storage, again) as process:
        out, err = process.communicate(timeout=2 * WITHIN_S)
    assert process.returncode == 0, err
    ended = outcomes(storage)
    assert [ended[trial] for trial in trials] == [["killed", "complete"]] * len(trials)
    assert recorded(storage) == undisturbed(tmp_path, study)


def test_a_search_uses_nodes_that_come_and_lets_samples_wait_for_others_if_asked(
    tmp_path: Path, started: Callable[[], Any]
) -> None:
    endless = {**LONG["training"], "max_epochs": 100_000, "patience": 100_000}
    study = write_study(tmp_path, **{**LONG, "training": endless})
    storage, cluster = tmp_path / "st", started()
    (tmp_path / "space.yaml").write_text("training.lr: {loguniform: [1.0e-4, 1.0e-2]}\n")
    more = ["--space", "space.yaml", "--samples", "4", "--repeats", "1", "--arm", "a", "--no-asha"]

    def begun() -> int:
        return len(list(storage.glob("tuning/*/trials/*/spec.json")))

    cluster.add_node(num_cpus=1)
    with driver(tmp_path, study, storage, cluster, verb="tune", more=more) as process:
        eventually(lambda: list(storage.glob("tuning/*/trials/*/checkpoint/*")), process)
        assert begun() == 1
        cluster.add_node(num_cpus=1)
        eventually(lambda: begun() == 2, process)
        process.terminate()
        process.communicate(timeout=WITHIN_S)
    waiting = [*more, "--max-concurrent", "3"]
    with driver(tmp_path, study, storage, cluster, verb="tune", more=waiting) as process:
        eventually(lambda: begun() == 3, process)
        process.terminate()
        out, err = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 75, out + err
