"""One driver a study: the second is refused with the first one's name, a dead or stopped one is succeeded."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xferlab.errors import LeaseHeldError, UsageError
from xferlab.records.store import Store
from xferlab.schedule.lease import EXPIRES_AFTER_S, Holder, Lease

HOLD = """\
import sys
from xferlab.records.store import Store
from xferlab.schedule.lease import Lease
with Lease(Store.open(sys.argv[1]), "s"):
    print("held", flush=True)
    sys.stdin.read()
"""
ELSEWHERE = {"host": "elsewhere", "pid": 7, "machine": "another boot", "since": "2026-01-01T00:00:00+00:00"}
BRIEF_S, LONG_S = 0.06, 3.0


def lease_of(folder: Path) -> Path:
    return folder / "studies/s/driver.lease"


def held(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(lease_of(folder).read_text())
    return content


def store_of(folder: Path) -> Store:
    return Store.open(folder)


def given(folder: Path, **holder: Any) -> dict[str, Any]:
    """A lease as another process wrote it; of this one, except for what is named."""
    lease_of(folder).parent.mkdir(parents=True, exist_ok=True)
    content = {**vars(Holder.this_process()), "expires_after_s": BRIEF_S, **holder}
    temporary = folder / "lease.tmp"
    temporary.write_text(json.dumps(content))
    temporary.replace(lease_of(folder))
    return content


@contextmanager
def beating(folder: Path, **holder: Any) -> Iterator[None]:
    """Another process that renews its lease all the time."""
    stop = threading.Event()

    def beat() -> None:
        count = 0.0
        while not stop.wait(0.001):
            count += 1.0
            given(folder, **holder, token="theirs", beat=count)

    given(folder, **holder, token="theirs")
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_it_is_gone_after_use_even_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with Lease(store_of(tmp_path), "s"):
            assert held(tmp_path)["pid"] == os.getpid()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not list((tmp_path / "studies/s").iterdir())


def test_studies_of_one_storage_do_not_disturb_each_other(tmp_path: Path) -> None:
    with Lease(store_of(tmp_path), "s"), Lease(store_of(tmp_path), "t"):
        pass


def test_the_second_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    with Lease(store_of(tmp_path), "s"):
        first = held(tmp_path)
        expected = (
            f"study 's' in {tmp_path} is driven by process {os.getpid()} on {socket.gethostname()} since "
            f"{first['since']}. Wait for it, stop it, or use another storage."
        )
        with pytest.raises(LeaseHeldError, match=f"^{re.escape(expected)}$"), Lease(store_of(tmp_path), "s"):
            pytest.fail("two leases at once")
        assert held(tmp_path)["token"] == first["token"]


@pytest.mark.slow
def test_a_killed_holder_is_succeeded_at_once_though_nobody_buried_it(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(LeaseHeldError, match=f"driven by process {process.pid} on "):
            Lease(store_of(tmp_path), "s").__enter__()
        process.kill()
        status = Path(f"/proc/{process.pid}/stat")
        eventually(lambda: status.read_text().rpartition(")")[2].split()[0] == "Z")
        assert held(tmp_path)["pid"] == process.pid
        with Lease(store_of(tmp_path), "s"):
            assert held(tmp_path)["pid"] == os.getpid()


def test_a_reused_process_number_is_another_process(tmp_path: Path) -> None:
    given(tmp_path, born="1", expires_after_s=1000.0)
    with Lease(store_of(tmp_path), "s"):
        assert held(tmp_path)["born"] != "1"


@pytest.mark.parametrize("age_s", [EXPIRES_AFTER_S + 1, -EXPIRES_AFTER_S - 1])
def test_a_holder_that_stands_still_on_this_machine_is_succeeded(
    tmp_path: Path, age_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    given(tmp_path, beat=time.monotonic() - age_s, expires_after_s=EXPIRES_AFTER_S)
    with caplog.at_level(logging.WARNING, "xferlab.schedule"), Lease(store_of(tmp_path), "s"):
        assert abs(held(tmp_path)["beat"] - time.monotonic()) < EXPIRES_AFTER_S
    name = f"process {os.getpid()} on {socket.gethostname()}"
    assert f"taken over from {name}, which is gone or stopped" in caplog.text


def test_a_short_stop_is_not_the_end(tmp_path: Path) -> None:
    given(tmp_path, beat=time.monotonic() - EXPIRES_AFTER_S + 30, expires_after_s=EXPIRES_AFTER_S)
    with pytest.raises(LeaseHeldError):
        Lease(store_of(tmp_path), "s").__enter__()


def test_a_live_holder_on_another_host_is_seen_by_its_beats(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with beating(tmp_path, **ELSEWHERE, expires_after_s=LONG_S):
        with pytest.raises(LeaseHeldError, match=r"process 7 on elsewhere since 2026-01-01T00:00:00\+00:00"):
            Lease(store_of(tmp_path), "s").__enter__()
        assert held(tmp_path)["token"] == "theirs"
    assert "watching for up to 3 s whether that is alive" in caplog.text


@pytest.mark.parametrize("beat", [0.0, 1e12])
def test_a_dead_holder_on_another_host_is_succeeded_whatever_its_clock_says(
    tmp_path: Path, beat: float
) -> None:
    given(tmp_path, **ELSEWHERE, beat=beat)
    with Lease(store_of(tmp_path), "s"):
        assert held(tmp_path)["host"] == socket.gethostname()


def test_a_container_of_this_host_is_another_machine(tmp_path: Path) -> None:
    machine = re.sub(r"pid:\[.*", "pid:[1]", Holder.this_process().machine)
    theirs = beating(tmp_path, machine=machine, pid=2**22 + 1, expires_after_s=LONG_S)
    with theirs, pytest.raises(LeaseHeldError, match=f"process {2**22 + 1} on "):
        Lease(store_of(tmp_path), "s").__enter__()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")
def test_a_process_of_another_pid_namespace_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XFERLAB_LEASE_S", "3")
    inside = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    words = [*inside, sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert held(tmp_path)["pid"] == 1
        assert held(tmp_path)["host"] == socket.gethostname()
        with pytest.raises(LeaseHeldError, match="driven by process 1 on "):
            Lease(store_of(tmp_path), "s").__enter__()
        process.kill()
    with Lease(store_of(tmp_path), "s"):
        assert held(tmp_path)["pid"] == os.getpid()


@contextmanager
def once_watching(act: Callable[[], object]) -> Iterator[None]:
    """Does something as soon as a lease is watched."""

    class Act(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "watching" in record.getMessage():
                act()

    handler, logger = Act(), logging.getLogger("xferlab.schedule")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def test_who_succeeds_a_watched_holder_is_named(tmp_path: Path) -> None:
    given(tmp_path, **ELSEWHERE, expires_after_s=LONG_S)
    third = {**ELSEWHERE, "host": "third"}
    watched = once_watching(lambda: given(tmp_path, **third))
    with watched, pytest.raises(LeaseHeldError, match="process 7 on third"):
        Lease(store_of(tmp_path), "s").__enter__()


def test_a_watched_holder_that_gives_it_back_is_succeeded(tmp_path: Path) -> None:
    given(tmp_path, **ELSEWHERE, expires_after_s=LONG_S)
    with once_watching(lease_of(tmp_path).unlink), Lease(store_of(tmp_path), "s"):
        assert held(tmp_path)["pid"] == os.getpid()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"host": "x"}', b"null", b"\xff"])
def test_a_damaged_lease_is_nobodys(tmp_path: Path, content: bytes) -> None:
    given(tmp_path)
    lease_of(tmp_path).write_bytes(content)
    with Lease(store_of(tmp_path), "s"):
        assert held(tmp_path)["pid"] == os.getpid()


@pytest.mark.parametrize("field", ["pid", "beat", "expires_after_s"])
def test_a_lease_with_words_for_numbers_is_nobodys(tmp_path: Path, field: str) -> None:
    given(tmp_path, **{field: "soon"})
    with Lease(store_of(tmp_path), "s"):
        assert held(tmp_path)[field] != "soon"


def overtaken(folder: Path, then: Callable[[], object] = lambda: None) -> None:
    """Lets another take the lease of a run, until it is asked to stop."""
    asked = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.set())
    try:
        with Lease(store_of(folder), "s"):
            given(folder, **ELSEWHERE, token="theirs")
            eventually(asked.is_set)
            then()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_holder_that_was_succeeded_asks_its_process_to_stop_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XFERLAB_LEASE_S", str(BRIEF_S))
    with pytest.raises(LeaseHeldError, match="was taken over by process 7 on elsewhere at 2026-01-01"):
        overtaken(tmp_path)
    assert held(tmp_path)["token"] == "theirs"
    assert "goes on there; trials that both had begun are computed twice" in caplog.text


def test_a_late_write_of_the_predecessor_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XFERLAB_LEASE_S", str(BRIEF_S))
    given(tmp_path, **ELSEWHERE, token="theirs")
    with Lease(store_of(tmp_path), "s"):
        given(tmp_path, **ELSEWHERE, token="theirs", beat=1e9)
        eventually(lambda: held(tmp_path)["host"] == socket.gethostname())


def test_a_holder_that_stood_still_while_it_wrote_looks_before_it_writes_again(tmp_path: Path) -> None:
    lease = Lease(store_of(tmp_path), "s")  # its heart beats by hand
    given(tmp_path, **vars(replace(lease._own, beat=0.0)))
    lease._own = replace(lease._own, beat=time.monotonic() - EXPIRES_AFTER_S - 1)
    for _ in range(2):
        lease._renew()
        assert held(tmp_path)["beat"] == 0.0
    lease._renew()
    assert held(tmp_path)["beat"] > 0.0


def test_a_holder_that_ends_before_it_notices_leaves_the_lease(tmp_path: Path) -> None:
    with Lease(store_of(tmp_path), "s"):
        other = given(tmp_path, **ELSEWHERE)
    assert held(tmp_path) == other


def test_an_error_of_the_run_is_told_rather_than_the_loss_of_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setenv("XFERLAB_LEASE_S", str(BRIEF_S))
    with pytest.raises(ZeroDivisionError):
        overtaken(tmp_path, fail)


def test_the_heart_goes_on_beating_after_a_storage_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XFERLAB_LEASE_S", str(BRIEF_S))
    folder = tmp_path / "studies/s"
    with caplog.at_level(logging.WARNING, "xferlab.schedule"), Lease(store_of(tmp_path), "s"):
        first = held(tmp_path)["beat"]
        (folder / "driver.lease").unlink()
        folder.rmdir()
        folder.write_text("in the way")
        eventually(lambda: "driver.lease: cannot be " in caplog.text)
        folder.unlink()
        eventually((folder / "driver.lease").exists)
        eventually(lambda: held(tmp_path)["beat"] > first)


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf", ""])
def test_a_time_that_is_none_is_refused(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XFERLAB_LEASE_S", text)
    with pytest.raises(UsageError, match=f"^XFERLAB_LEASE_S={text!r}: accepted are seconds, more than 0$"):
        Lease(store_of(tmp_path), "s")


def eventually(holds: Any) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)
