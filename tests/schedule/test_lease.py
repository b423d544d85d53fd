"""One driver a study: the second is refused with the first one's name, a dead one's lease is taken over."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from xferlab.errors import LeaseHeldError
from xferlab.records.store import Store
from xferlab.schedule import lease
from xferlab.schedule.lease import Lease

HOLD = """\
import sys
from xferlab.records.store import Store
from xferlab.schedule.lease import Lease
with Lease(Store.open(sys.argv[1]), "s"):
    print("held", flush=True)
    sys.stdin.read()
"""


def held(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "studies/s/driver.lease").read_text())
    return content


def store_of(folder: Path) -> Store:
    return Store.open(folder)


def given(folder: Path, **holder: Any) -> None:
    """A lease as another process wrote it."""
    path = folder / "studies/s/driver.lease"
    path.parent.mkdir(parents=True)
    other = {"host": "elsewhere", "pid": 7, "born": "1", "since": "2026-01-01T00:00:00+00:00"}
    path.write_text(json.dumps({**other, "heartbeat": time.time(), **holder}))


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
        since = held(tmp_path)["since"]
        expected = (
            f"study 's' in {tmp_path} is driven by process {os.getpid()} on {socket.gethostname()} since "
            f"{since}. Wait for it, stop it, or use another storage."
        )
        with pytest.raises(LeaseHeldError, match=f"^{re.escape(expected)}$"), Lease(store_of(tmp_path), "s"):
            pytest.fail("two leases at once")
        assert held(tmp_path)["pid"] == os.getpid()


@pytest.mark.slow
def test_a_killed_holder_is_succeeded(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(LeaseHeldError, match=f"driven by process {process.pid} on "):
            Lease(store_of(tmp_path), "s").__enter__()
        process.kill()
        process.wait()
    assert held(tmp_path)["pid"] == process.pid
    with Lease(store_of(tmp_path), "s"):
        assert held(tmp_path)["pid"] == os.getpid()


def test_a_reused_process_number_is_another_process(tmp_path: Path) -> None:
    given(tmp_path, host=socket.gethostname(), pid=os.getpid(), born="1")
    with Lease(store_of(tmp_path), "s"):
        assert held(tmp_path)["born"] != "1"


def test_on_another_host_the_heartbeat_decides(tmp_path: Path) -> None:
    given(tmp_path / "live", heartbeat=time.time() - lease.EXPIRES_AFTER_S + 30)
    with pytest.raises(LeaseHeldError, match=r"process 7 on elsewhere since 2026-01-01T00:00:00\+00:00"):
        Lease(store_of(tmp_path / "live"), "s").__enter__()
    given(tmp_path / "dead", heartbeat=time.time() - lease.EXPIRES_AFTER_S - 1)
    with Lease(store_of(tmp_path / "dead"), "s"):
        assert held(tmp_path / "dead")["host"] == socket.gethostname()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"host": "x"}', b"null", b"\xff"])
def test_a_damaged_lease_is_nobodys(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "studies/s/driver.lease"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with Lease(store_of(tmp_path), "s"):
        assert held(tmp_path)["pid"] == os.getpid()


def test_a_lease_that_another_took_over_is_left_to_it(tmp_path: Path) -> None:
    other = {**dict.fromkeys(lease._FIELDS, "1"), "host": "elsewhere"}
    with Lease(store_of(tmp_path), "s"):
        (tmp_path / "studies/s/driver.lease").write_text(json.dumps(other))
    assert held(tmp_path) == other


def test_the_heart_goes_on_beating_after_a_storage_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.005)
    folder = tmp_path / "studies/s"
    with caplog.at_level(logging.WARNING, "xferlab.schedule"), Lease(store_of(tmp_path), "s"):
        first = held(tmp_path)["heartbeat"]
        (folder / "driver.lease").unlink()
        folder.rmdir()
        folder.write_text("in the way")
        eventually(lambda: "driver.lease: cannot be written" in caplog.text)
        folder.unlink()
        eventually((folder / "driver.lease").exists)
        eventually(lambda: held(tmp_path)["heartbeat"] > first)


def eventually(holds: Any) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)
