"""What Ray adds: trials side by side without barriers, resources, lost workers, clusters that run already."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.runs import Lab
from tests.end_to_end.processes import command_of, eventually, free_port, listening, program
from tests.schedule.graphs import trial
from tests.studies import (
    TINY,
    attempts,
    command,
    environment,
    outcomes,
    recorded,
    undisturbed,
    write_study,
    xferlab,
)
from xferlab.errors import InterruptedTrialError, UsageError
from xferlab.plan.spec import Reservation, Settings, TrialSpec
from xferlab.records import reader
from xferlab.records.store import Store
from xferlab.schedule import nodes
from xferlab.schedule.graph import State
from xferlab.schedule.watch import below


def asking(device: str = "cpu", **resources: Any) -> TrialSpec:
    settings = Settings(resources=Reservation(**resources))
    return trial("general", settings=settings, device=device)


@pytest.mark.component
@pytest.mark.parametrize(
    ("spec", "bundle"),
    [
        (asking(cpu=2), {"CPU": 2.0}),
        (asking(gpu=0.25), {"CPU": 1.0}),  # a trial on the CPU takes no GPU from others
        (asking("cuda", gpu=0.25), {"CPU": 1.0, "GPU": 0.25}),
        (asking("cuda"), {"CPU": 1.0, "GPU": 1.0}),  # Ray hides the GPUs of a worker that reserves none
        (asking(memory_gib=1.5), {"CPU": 1.0, "memory": 1.5 * 2**30}),
    ],
)
def test_a_trial_reserves_what_its_stage_asks_for(spec: TrialSpec, bundle: dict[str, float]) -> None:
    assert nodes.bundle(spec) == bundle


@pytest.mark.component
@pytest.mark.parametrize(
    ("trials", "fills"),
    [
        ([asking()] * 2, True),
        ([asking(), asking(cpu=0.5), asking("cpu", gpu=1)], True),
        ([asking()], False),
        ([asking(), asking(cpu=2)], False),
        ([asking(), asking("cuda")], False),
    ],
)
def test_whether_each_of_two_cores_gets_a_trial(trials: list[TrialSpec], fills: bool) -> None:
    assert nodes.each_core_gets_one(trials, 2) is fills


WAITING = """
import os, sys, time
import ray
from ray.tune.execution.class_cache import _ActorClassCache
from tests.end_to_end.processes import command_of
from xferlab.schedule import ray_session
from xferlab.schedule.watch import below

class Worker:
    def seen(self):
        return os.getpid(), "xml.dom.minidom" in sys.modules, os.environ["MALLOC_ARENA_MAX"]

def idle():
    return [pid for pid in below(os.getpid()) if command_of(pid).startswith("ray::IDLE")]

with ray_session.cluster(None, num_cpus=1, imports=["xml.dom.minidom"]):
    while not idle():
        time.sleep(0.05)
    (waiting,) = idle()
    tuned = _ActorClassCache().get(Worker).options(num_cpus=1).remote()
    seen = ray.get(tuned.seen.remote())
    assert seen == (waiting, True, "1"), (waiting, seen)
assert "RAY_preload_python_modules" not in os.environ
"""


@pytest.mark.slow
def test_tune_takes_a_process_that_waits_and_has_imported_what_it_needs() -> None:
    run = subprocess.run(
        [sys.executable, "-c", WAITING],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
def test_a_cluster_of_one_machine_listens_on_loopback_only(ray_execute: Any) -> None:
    children = [os.getpid(), *below(os.getpid())]
    sockets = {pid: listening(pid) for pid in children}
    addresses = {address for found in sockets.values() for address, _ in found}
    assert {program(pid) for pid, found in sockets.items() if found} >= {"gcs_server", "raylet"}
    assert addresses == {"127.0.0.1"}
    unneeded = ("dashboard/dashboard.py", "log_monitor.py", "monitor.py")
    assert not [command for command in map(command_of, children) if any(name in command for name in unneeded)]
    print(f"{sum(map(len, sockets.values()))} listening sockets of {len(children)} processes: {addresses}")


STAGES = TINY["stages"]
SAVES_WITHIN_S = 1.5
"""Of a storage that is slow; Ray kills a process 0.2 s after it has ended an actor."""
SLOW = {"max_epochs": 400, "patience": 400, "checkpoint_every_s": 60}


@pytest.mark.slow
def test_no_stage_waits_for_all_of_another(ray_lab: Lab) -> None:
    arms = {"quick": {}, "long": {"stages.general.training": SLOW}}
    stages = {**STAGES, "general": {**STAGES["general"], "repetitions": 1}}
    outcome = ray_lab.run(ray_lab.study(repetitions=1, stages=stages, arms=arms))
    assert set(ray_lab.states(outcome).values()) == {State.COMPLETE}
    heard = ray_lab.heard
    assert heard.when("quick/portable/r01", State.COMPLETE) < heard.when("long/general/r01", State.COMPLETE)


@pytest.mark.slow
def test_what_no_node_has_is_refused_at_once(ray_lab: Lab) -> None:
    session = ray_lab.study()
    trials = [asking(cpu=1.0), asking(cpu=64.0)]
    expected = (
        r"^stage 'general' asks for \{'CPU': 64.0\}, and no node has that "
        r"\(largest: \{'CPU': 2.0, 'GPU': 0.0\}\). "
        "Lower `resources` in the study, or add nodes.$"
    )
    assert re.match(expected, nodes.unmet_resources(trials))
    expected = (
        r"^stage 'general' trains on cuda, and Ray finds no GPU on any node .* Set training.device to cpu"
    )
    assert re.match(expected, nodes.unmet_resources([asking("cuda")]))
    assert nodes.unmet_resources(list(session.plan().trials)) == ""


KILLED = (
    "its worker ended without giving a reason; it was probably killed (SIGKILL), for example because memory "
    "ran short"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGKILL, KILLED), (signal.SIGSEGV, "its worker crashed with SIGSEGV")],
)
def test_a_lost_worker_is_retried_then_told_and_healed(
    ray_lab: Lab, number: signal.Signals, reason: str
) -> None:
    session = ray_lab.study(arms={"a": {}}, retries=1, stages={"general": {**STAGES["general"]}},
                            training={**TINY["training"], **SLOW, "checkpoint_every_s": 0.2})  # fmt: skip
    plan = session.plan()
    victim = plan.names["a/general/r01"]

    def kill(of: TrialSpec) -> None:
        if of.trial_id == victim:
            with suppress(ProcessLookupError):
                os.kill(attempts(ray_lab.storage)[victim][-1]["pid"], number)

    ray_lab.heard.on_epoch = kill
    outcome = ray_lab.run(session, plan)
    assert ray_lab.states(outcome) == {"a/general/r01": State.FAILED, "a/general/r02": State.COMPLETE}
    assert ray_lab.heard.reason("a/general/r01") == f"WorkerLost: {reason}"
    failure = reader.read_failure(session.store, victim)
    assert failure is not None
    told = [failure[name] for name in ("type", "kind", "host", "traceback", "signal")]
    known = None if number == signal.SIGKILL else number.name
    assert told == ["WorkerLost", "lost", socket.gethostname(), "", known]
    assert failure["epoch"] > 0
    assert failure["pid"] == attempts(ray_lab.storage)[victim][-1]["pid"]
    assert 0.05 < failure["memory_peak_gib"] < 8
    assert outcomes(ray_lab.storage)[victim] == ["killed", "running"]

    ray_lab.heard.on_epoch = lambda trial: None
    outcome = ray_lab.run(session)
    assert set(ray_lab.states(outcome).values()) == {State.COMPLETE}
    assert outcomes(ray_lab.storage) == {
        victim: ["killed", "killed", "complete"], plan.names["a/general/r02"]: ["complete"],
    }  # fmt: skip
    assert attempts(ray_lab.storage)[victim][-1]["first_epoch"] > 1
    assert reader.read_failure(session.store, victim) is None


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_saves_and_costs_no_retry(tmp_path: Path) -> None:
    training = {**TINY["training"], **SLOW, "max_epochs": 150}
    stages = {"general": {**STAGES["general"], "repetitions": 1}}
    study = write_study(tmp_path, repetitions=1, arms={"a": {}}, retries=0, training=training, stages=stages)
    words = command("run", study, "--storage", tmp_path / "st", "--workers", "1")
    with subprocess.Popen(
        words, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        eventually(lambda: _epochs(tmp_path / "st") > 20, process)
        ((running,),) = attempts(tmp_path / "st").values()
        os.kill(running["pid"], signal.SIGTERM)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert "its worker was told to end (SIGTERM); it is tried again" in out
    ((first, second),) = attempts(tmp_path / "st").values()
    assert (first["outcome"], second["outcome"]) == ("interrupted", "complete")
    assert second["first_epoch"] > 20  # saved for the notice: the first checkpoint was due after 60 s


@pytest.mark.slow
def test_workers_that_are_stopped_live_until_they_have_saved(ray_lab: Lab) -> None:
    saved = ray_lab.folder / "saved"
    saved.mkdir()

    def train(trial: TrialSpec, store: Store, cache_dir: Path, reporter: Any) -> None:
        epochs = count(1)
        while not reporter.stopped():
            reporter.note(next(epochs), None)
            time.sleep(0.01)
        time.sleep(SAVES_WITHIN_S)
        (saved / trial.trial_id).touch()
        raise InterruptedTrialError("stopped")

    ray_lab.execute = partial(ray_lab.execute, train=train)
    ray_lab.heard.on_epoch = lambda trial: signal.raise_signal(signal.SIGTERM)
    outcome = ray_lab.run(ray_lab.study(arms={"a": {}, "b": {}}))
    assert len(list(saved.iterdir())) == len(ray_lab.heard.events) == 2
    assert not outcome.graph.counts().get(State.COMPLETE)


def _epochs(storage: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in storage.glob("trials/*/progress.jsonl"))


RAY = (sys.executable, "-m", "ray.scripts.scripts")


@contextmanager
def head_node(folder: Path) -> Iterator[str]:
    """A cluster as `ray start --head` makes it, on ports of its own; ends with its process."""
    subprocess.run([*RAY, "get-auth-token", "--generate"], check=True, capture_output=True, timeout=60)
    port = free_port()
    words = [
        *RAY, "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1", f"--port={port}",
        "--include-dashboard=false", f"--temp-dir={folder}", "--disable-usage-stats",
    ]  # fmt: skip
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "Ray runtime started" in line:
                    break
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.communicate(timeout=30)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_address_joins_a_running_cluster_and_leaves_it_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray keeps its token there
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    short = Path("/tmp") / f"xferlab-{os.getpid()}"  # sockets have short paths
    try:
        with head_node(short) as address:
            for storage in ("one", "two"):
                xferlab(tmp_path, "run", study, "--storage", tmp_path / storage, "--address", address, code=0)
    finally:
        shutil.rmtree(short, ignore_errors=True)
    assert recorded(tmp_path / "one") == recorded(tmp_path / "two") == undisturbed(tmp_path, study)


@pytest.mark.slow
def test_a_process_that_uses_ray_already_is_refused_and_keeps_its_ray(ray_lab: Lab) -> None:
    ray, ray_session = (importlib.import_module(name) for name in ("ray", "xferlab.schedule.ray_session"))
    node = ray.get_runtime_context().get_node_id()
    for address in (None, "auto"):
        with (
            pytest.raises(
                UsageError,
                match=r"^Ray is already connected in this process; call ray\.shutdown\(\) first, or use "
                r"--executor in-process$",
            ),
            ray_session.cluster(address),
        ):
            pass
    assert ray.get_runtime_context().get_node_id() == node


@pytest.mark.slow
@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "nonsense", "ray://127.0.0.1:1"])
def test_where_no_cluster_is_the_address_is_told(tmp_path: Path, address: str) -> None:
    study = write_study(tmp_path)
    started = time.monotonic()
    run = xferlab(tmp_path, "run", study, "--storage", tmp_path / "st", "--address", address)
    assert (run.returncode, "Traceback" in run.stderr) == (2, False), run.stderr
    assert run.stderr.splitlines()[-1].startswith(f"xferlab: --address {address}: no Ray cluster answers (")
    print(f"--address {address}: {time.monotonic() - started:.1f} s")
