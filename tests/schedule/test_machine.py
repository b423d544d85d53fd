"""What a machine lacks is replaced before libraries need it, or refused in one sentence."""

from __future__ import annotations

import errno
import getpass
import os
import pwd
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xferlab.errors import UsageError
from xferlab.schedule import machine

SOCKET_PATH_BYTES = 107
USER = ("LOGNAME", "USER", "LNAME", "USERNAME")
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def own_environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever `prepare` sets is gone after the test."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def raising(error: Exception) -> Any:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "TkAgg", "nonsense"])
def test_figures_are_drawn_without_a_screen(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setenv("MPLBACKEND", backend)
    machine.prepare()
    assert os.environ["MPLBACKEND"] == "Agg"


NO_THREAD = RuntimeError("can't start new thread")


@pytest.mark.parametrize(
    ("check", "module", "name", "error", "match"),
    [
        (
            machine.prepare, os, "getcwd", FileNotFoundError(),
            r"^the working folder was deleted; change to one that exists$",
        ),
        (
            machine.prepare, tempfile, "gettempdir", FileNotFoundError(2, "No usable temporary directory"),
            r"No usable temporary directory\); set TMPDIR to a folder",
        ),
        (
            machine.prepare, threading.Thread, "start", NO_THREAD,
            r"^\d+ processes .* \(can't start new thread\); raise `ulimit -u`, `ulimit -v`, or the "
            r"container's limits$",
        ),
        (
            machine.check_room_for_ray, socket, "create_server", OSError(98, "Address already in use"),
            r"24 free ports .* \(Address already in use\); use --executor in-proc",
        ),
        (
            machine.check_room_for_ray, threading.Thread, "start", NO_THREAD,
            r"^200 processes .*, or the container's limits, or use --executor in-process$",
        ),
    ],
)  # fmt: skip
def test_what_nothing_replaces_is_told(
    monkeypatch: pytest.MonkeyPatch,
    check: Callable[[], None],
    module: Any,
    name: str,
    error: Exception,
    match: str,
) -> None:
    monkeypatch.setattr(module, name, raising(error))
    with pytest.raises(UsageError, match=match):
        check()


def test_a_temporary_folder_that_cannot_be_used_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nonexistent/tmp")
    machine.prepare()
    assert Path(os.environ["TMPDIR"]).is_dir()


def test_a_user_without_an_entry_gets_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in USER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", raising(KeyError("getpwuid(): uid not found: 54321")))
    machine.prepare()
    assert getpass.getuser() == f"uid-{os.getuid()}"


def test_a_home_folder_that_is_absent_is_replaced_by_one_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/nonexistent/home")
    machine.prepare()
    assert Path.home() == tmp_path / "cache" / "home"
    assert all(Path(os.environ[name]).is_dir() for name in ("MPLCONFIGDIR", "WANDB_CONFIG_DIR"))


@pytest.mark.parametrize("writable", [True, False])
def test_a_home_folder_that_is_there_stays_and_is_written_only_where_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writable: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MPLCONFIGDIR", "as the user says")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)  # torch sets it where it compiles
    monkeypatch.setattr(os, "access", lambda path, mode: writable)
    machine.prepare()
    assert Path.home() == tmp_path
    assert os.environ["MPLCONFIGDIR"] == "as the user says"
    folder = None if writable else str(tmp_path / "cache" / "home" / "inductor")
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == folder
    assert (tmp_path / "cache").exists() != writable


def test_the_limit_of_open_files_is_raised_as_far_as_allowed() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        machine.prepare()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(machine.OPEN_FILES, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_rays_longest_socket_fits_below_the_longest_folder() -> None:
    session = "session_2026-11-28_04-25-37_125826_4194304"  # the largest process number
    path = f"{'x' * machine.SHORT}/xl-12345678/r/{session}/sockets/plasma_store"
    assert len(path) <= SOCKET_PATH_BYTES


def test_rays_folder_is_short_private_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("x" * machine.SHORT)))
    (tmp_path / ("x" * machine.SHORT)).mkdir()
    with machine.folder_for_ray() as folder:
        assert len(str(folder.parent)) <= machine.SHORT
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "logs").mkdir()
    assert not folder.exists()


def test_rays_folder_stays_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    base = tempfile.mkdtemp(prefix="xl-test-", dir="/tmp")
    monkeypatch.setenv("RAY_TMPDIR", base)
    with machine.folder_for_ray() as folder:
        assert str(folder.parent) == base
    assert folder.exists()
    shutil.rmtree(base)


def test_ray_gets_no_folder_that_takes_no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    base = tempfile.mkdtemp(prefix="xl-test-", dir="/tmp")
    monkeypatch.setenv("RAY_TMPDIR", base)

    class NoSockets(socket.socket):
        def bind(self, address: Any) -> None:
            if str(address).startswith(base):
                Path(str(address)).touch()  # as exFAT does
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            super().bind(address)

    monkeypatch.setattr(socket, "socket", NoSockets)
    with machine.folder_for_ray() as folder:
        assert str(folder.parent) != base
        assert not list(folder.iterdir())
    os.rmdir(base)


def test_no_folder_for_ray_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, 0))
    with (
        pytest.raises(
            UsageError, match=r"can be written and takes sockets.*/tmp.*: none is\); set RAY_TMPDIR"
        ),
        machine.folder_for_ray(),
    ):
        pass
    assert machine.shared_memory() is None


@pytest.mark.parametrize(
    ("openblas", "omp", "cores"),
    [
        (None, None, 3), ("2", None, 2), (None, "1", 1), ("2", "1", 2), ("64", None, 3),
        ("nonsense", "0", 3), ("0", "2", 2), (None, "2,1", 2),
    ],
)  # fmt: skip
def test_threads_are_needed_for_the_cores_that_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch, openblas: str | None, omp: str | None, cores: int
) -> None:
    started: list[int] = []
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5, 7})
    monkeypatch.setattr(machine, "_check_threads", started.append)
    for name, value in {"OPENBLAS_NUM_THREADS": openblas, "OMP_NUM_THREADS": omp}.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    machine.prepare()
    assert started == [machine.THREADS + cores]


LITTLE_MEMORY = """
import resource, threading
from xferlab.schedule import machine
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
machine._check_threads(machine.THREADS_OF_RAY)
print(threading.stack_size())
"""


@pytest.mark.component
def test_threads_that_only_wait_need_little_memory() -> None:
    one_heap = {**os.environ, "MALLOC_ARENA_MAX": "1"}  # glibc reserves 64 MiB for each that it makes
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY], env=one_heap, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("0\n", "")  # later threads get their usual size


PREPARES = """
import sys
from xferlab.schedule import machine, ray_worker
from xferlab.search import samples
class Prepares(Exception): pass
def prepare(): raise Prepares
machine.prepare = prepare
try:
    ray_worker.work({}, None, samples.train_sample)
except Prepares:
    print("torch" in sys.modules)
"""


@pytest.mark.component
def test_a_worker_prepares_before_it_imports_what_needs_that() -> None:
    done = subprocess.run([sys.executable, "-c", PREPARES], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_this_machine_has_room() -> None:
    machine.check_room_for_ray()
