"""The head or the only node is killed: the run ends and says so, nothing stays, and running again goes on."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.end_to_end.processes import eventually, program, until_gone
from tests.studies import TINY, command, environment, recorded, undisturbed, write_study, xferlab
from xferlab.errors import ClusterLostError
from xferlab.schedule.stop import StopRequest
from xferlab.schedule.watch import Watch, below

LONG = {
    "training": {**TINY["training"], "max_epochs": 150, "patience": 150, "checkpoint_every_s": 1},
    "stages": {"general": {"data": "general", "repetitions": 2, "evaluate_on": ["general.test"]}},
    "arms": {"a": {}},
    "retries": 0,
}


def until_training(storage: Path, process: subprocess.Popen[str], *, num_checkpoints: int = 2) -> None:
    eventually(lambda: len(list(storage.glob("trials/*/checkpoint/state-*"))) >= num_checkpoints, process)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["raylet", "gcs_server"])
def test_a_run_ends_when_its_cluster_is_gone(tmp_path: Path, victim: str) -> None:
    study, storage = write_study(tmp_path, **LONG), tmp_path / "lost"
    process = subprocess.Popen(
        command("run", study, "--storage", storage, "--workers", "2"), env=environment(tmp_path),
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        until_training(storage, process)
        children = below(process.pid)
        (pid,) = (child for child in children if program(child) == victim)
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        out, err = process.communicate(timeout=90)
    took_s = time.monotonic() - killed
    gone_s = until_gone(children, within_s=30)
    print(f"{victim} killed: ended after {took_s:.1f} s, its processes after {gone_s:.1f} s more")
    assert process.returncode == 75, err
    last = err.splitlines()[-1]
    assert last.startswith("xferlab: the Ray cluster was lost (")
    assert last.endswith("; the same command continues")
    assert "failed" not in out
    assert not list(storage.rglob("failure.json"))
    xferlab(tmp_path, "run", study, "--storage", storage, "--executor", "in-process", code=0)
    assert recorded(storage) == undisturbed(tmp_path, study)


@pytest.mark.slow
def test_a_run_says_that_rays_folder_was_deleted(tmp_path: Path) -> None:
    training = {**TINY["training"], "max_epochs": 30, "patience": 30, "checkpoint_every_s": 1}
    study, storage = write_study(tmp_path, **{**LONG, "training": training}), tmp_path / "st"
    words = ("run", study, "--storage", storage)
    with (
        tempfile.TemporaryDirectory(prefix="xt-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        subprocess.Popen(
            command(*words, "--workers", "1"), env={**environment(tmp_path), "RAY_TMPDIR": folder},
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process,
    ):  # fmt: skip
        until_training(storage, process, num_checkpoints=1)
        (ours,) = Path(folder).iterdir()
        shutil.rmtree(ours, ignore_errors=True)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    assert err.splitlines()[-1] == (
        f"xferlab: Ray's folder {ours} was deleted while Ray ran. Let RAY_TMPDIR name a folder that nothing "
        "cleans up; the same command continues"
    )
    assert "Traceback" not in err
    assert xferlab(tmp_path, *words, "--executor", "in-process").returncode == 0


@pytest.mark.component
def test_a_watch_asks_to_end_once_nobody_listens() -> None:
    stop = StopRequest()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        addresses = {"the head": server.getsockname(), "the node": other.getsockname()}
        with Watch(addresses, stop, patience_s=1.5):
            time.sleep(0)  # it listens: nothing is asked
            assert not stop.asked()
            server.close()
            deadline = time.monotonic() + 30
            while not stop.asked():
                assert time.monotonic() < deadline
                time.sleep(0.02)
    assert isinstance(stop.problem, ClusterLostError)
    assert str(stop.problem) == "the Ray cluster was lost (the head is gone); the same command continues"


@pytest.mark.component
def test_a_cluster_that_is_left_may_go() -> None:
    stop = StopRequest()
    with Watch({"the head": ("127.0.0.1", 1)}, stop, patience_s=3.0) as watch:
        watch.rest()
        watch._thread.join(timeout=60)  # nobody listens there, and it gives up looking
        assert not watch._thread.is_alive()
    assert not stop.asked()


HANGING = """
import socket, threading, xferlab.schedule.watch as watch
from xferlab.schedule.stop import StopRequest
watch.END_WITHIN_S = 0.2
with watch.Watch({"the head": ("127.0.0.1", 1)}, StopRequest(), patience_s=0.1):
    threading.Event().wait()
"""


@pytest.mark.component
def test_a_run_that_cannot_end_by_itself_is_ended() -> None:
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=60)
    said = "xferlab: the Ray cluster was lost (the head is gone); the same command continues\n"
    assert (done.returncode, done.stderr) == (75, said)
