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
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
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
HERE = f"process {os.getpid()} on {socket.gethostname()}"


@dataclass(frozen=True)
class Ground:
    """A storage, the lease of study `s` in it, and what others write there."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "studies/s/driver.lease"

    def lease(self) -> Lease:
        return Lease(Store.open(self.folder), "s")

    def stored(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.path.read_text())
        return content

    def write(self, **holder: Any) -> dict[str, Any]:
        """A lease as another process wrote it; of this one, except for what is named."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {**json.loads(Holder.this_process().to_bytes()), "expires_after_s": BRIEF_S, **holder}
        temporary = self.folder / "lease.tmp"
        temporary.write_text(json.dumps(content))
        temporary.replace(self.path)
        return content

    @contextmanager
    def beating(self, **holder: Any) -> Iterator[None]:
        """Another process that renews its lease all the time."""
        stop = threading.Event()

        def beat() -> None:
            count = 0.0
            while not stop.wait(0.001):
                count += 1.0
                self.write(**holder, token="theirs", beat=count)

        self.write(**holder, token="theirs")
        thread = threading.Thread(target=beat)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    @contextmanager
    def held_by_process(self, *prefix: str) -> Iterator[subprocess.Popen[str]]:
        """A process that holds the lease until it is killed."""
        command = [*prefix, sys.executable, "-c", HOLD, str(self.folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
            process.kill()

    def refused(self, match: str) -> None:
        with pytest.raises(LeaseHeldError, match=match):
            self.lease().__enter__()

    def taken_over(self) -> None:
        with self.lease():
            assert self.stored()["pid"] == os.getpid()
            assert self.stored()["host"] == socket.gethostname()


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that run out soon."""
    monkeypatch.setenv("XFERLAB_LEASE_S", str(BRIEF_S))


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_it_is_gone_after_use_even_after_an_error(ground: Ground) -> None:
    with suppress(ZeroDivisionError), ground.lease():
        assert ground.stored()["pid"] == os.getpid()
        raise ZeroDivisionError
    assert not list(ground.path.parent.iterdir())


def test_studies_and_searches_of_one_storage_do_not_disturb_each_other(ground: Ground) -> None:
    store = Store.open(ground.folder)
    message = f"^search 's' in {ground.folder} is driven by {HERE}"
    with (
        ground.lease(), Lease(store, "t"), Lease(store, "s", search=True),
        pytest.raises(LeaseHeldError, match=message),
    ):  # fmt: skip
        Lease(store, "s", search=True).__enter__()


def test_the_second_is_refused_with_the_name_of_the_first(ground: Ground) -> None:
    with ground.lease():
        first = ground.stored()
        expected = (
            f"study 's' in {ground.folder} is driven by {HERE} since {first['since']}. "
            "Wait for it, stop it, or use another storage."
        )
        ground.refused(f"^{re.escape(expected)}$")
        assert ground.stored()["token"] == first["token"]


@pytest.mark.slow
def test_a_killed_holder_is_succeeded_at_once_though_nobody_buried_it(ground: Ground) -> None:
    with ground.held_by_process() as process:
        ground.refused(f"driven by process {process.pid} on ")
        process.kill()
        status = Path(f"/proc/{process.pid}/stat")
        eventually(lambda: status.read_text().rpartition(")")[2].split()[0] == "Z")
        assert ground.stored()["pid"] == process.pid
        ground.taken_over()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")
def test_a_process_of_another_pid_namespace_is_not_taken_for_dead(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XFERLAB_LEASE_S", "3")
    with ground.held_by_process("unshare", "--pid", "--fork", "--mount-proc", "--kill-child"):
        assert (ground.stored()["pid"], ground.stored()["host"]) == (1, socket.gethostname())
        ground.refused("driven by process 1 on ")
    ground.taken_over()


STALE = {"beat": -1e6, "expires_after_s": EXPIRES_AFTER_S}


@pytest.mark.parametrize(
    "holder",
    [
        {"born": "1", "expires_after_s": 1000.0},  # a reused number is another process
        STALE,
        {**STALE, "beat": 1e6 + time.monotonic()},  # of another time namespace
        {**ELSEWHERE, "beat": 0.0},
        {**ELSEWHERE, "beat": 1e12},
    ],
    ids=["reused number", "stands still", "another clock", "elsewhere, early clock", "elsewhere, late clock"],
)
def test_a_holder_that_is_gone_or_stands_still_is_succeeded(
    ground: Ground, holder: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    ground.write(**holder)
    with caplog.at_level(logging.WARNING, "xferlab.schedule"):
        ground.taken_over()
    who = HERE if "host" not in holder else "process 7 on elsewhere"
    assert f"taken over from {who}, which is gone or stopped" in caplog.text


def test_a_short_stop_is_not_the_end(ground: Ground) -> None:
    ground.write(**{**STALE, "beat": time.monotonic() - EXPIRES_AFTER_S + 30})
    ground.refused(HERE)


CONTAINER = {"machine": re.sub(r"pid:\[.*", "pid:[1]", Holder.this_process().machine), "pid": 2**22 + 1}


@pytest.mark.parametrize(
    ("holder", "who"),
    [
        (ELSEWHERE, r"process 7 on elsewhere since 2026-01-01T00:00:00\+00:00"),
        (CONTAINER, f"process {2**22 + 1} on "),  # of this host, and another machine all the same
    ],
    ids=["host", "container"],
)
def test_a_live_holder_elsewhere_is_seen_by_its_beats(
    ground: Ground, holder: dict[str, Any], who: str, caplog: pytest.LogCaptureFixture
) -> None:
    with ground.beating(**holder, expires_after_s=LONG_S):
        ground.refused(who)
        assert ground.stored()["token"] == "theirs"
    assert "watching for up to 3 s whether that is alive" in caplog.text


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


def test_who_succeeds_a_watched_holder_is_named(ground: Ground) -> None:
    ground.write(**ELSEWHERE, expires_after_s=LONG_S)
    with once_watching(lambda: ground.write(**{**ELSEWHERE, "host": "third"})):
        ground.refused("process 7 on third")


def test_a_watched_holder_that_gives_it_back_is_succeeded(ground: Ground) -> None:
    ground.write(**ELSEWHERE, expires_after_s=LONG_S)
    with once_watching(ground.path.unlink):
        ground.taken_over()


WORDS = [
    json.dumps({**asdict(Holder.this_process()), name: "soon"}).encode()
    for name in ("pid", "beat", "expires_after_s")
]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"host": "x"}', b"null", b"\xff", *WORDS]
)  # fmt: skip
def test_a_damaged_lease_is_nobodys(ground: Ground, content: bytes) -> None:
    ground.write()
    ground.path.write_bytes(content)
    ground.taken_over()


def succeed(ground: Ground, then: Callable[[], object] = lambda: None) -> None:
    """Lets another take the lease of a run, until it is asked to stop."""
    asked = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.set())
    try:
        with ground.lease():
            ground.write(**ELSEWHERE, token="theirs")
            eventually(asked.is_set)
            then()
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("brief")
def test_a_holder_that_was_succeeded_asks_its_process_to_stop_and_changes_nothing(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(LeaseHeldError, match="was taken over by process 7 on elsewhere at 2026-01-01"):
        succeed(ground)
    assert ground.stored()["token"] == "theirs"
    assert "goes on there; trials that both had begun are computed twice" in caplog.text


@pytest.mark.usefixtures("brief")
def test_an_error_of_the_run_is_told_rather_than_the_loss_of_its_lease(ground: Ground) -> None:
    with pytest.raises(ZeroDivisionError):
        succeed(ground, lambda: 1 // 0)


@pytest.mark.usefixtures("brief")
def test_a_late_write_of_the_predecessor_is_written_over(ground: Ground) -> None:
    ground.write(**ELSEWHERE, token="theirs")
    with ground.lease():
        ground.write(**ELSEWHERE, token="theirs", beat=1e9)
        eventually(lambda: ground.stored()["host"] == socket.gethostname())


def test_a_holder_that_stood_still_while_it_wrote_looks_before_it_writes_again(ground: Ground) -> None:
    lease = ground.lease()  # it is renewed by hand
    ground.write(**asdict(replace(lease._holder, beat=0.0)))
    lease._holder = replace(lease._holder, beat=time.monotonic() - EXPIRES_AFTER_S - 1)
    for _ in range(2):
        lease._renew()
        assert ground.stored()["beat"] == 0.0
    lease._renew()
    assert ground.stored()["beat"] > 0.0


def test_a_holder_that_ends_before_it_notices_leaves_the_lease(ground: Ground) -> None:
    with ground.lease():
        other = ground.write(**ELSEWHERE)
    assert ground.stored() == other


def test_a_lease_is_renewed_again_after_a_storage_failed(
    ground: Ground, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XFERLAB_LEASE_S", "1.2")  # renewed each 0.2 s: not while the folder is replaced
    folder = ground.path.parent
    with caplog.at_level(logging.WARNING, "xferlab.schedule"), ground.lease():
        first = ground.stored()["beat"]
        ground.path.unlink()
        folder.rmdir()
        folder.write_text("in the way")
        eventually(lambda: "driver.lease: cannot be " in caplog.text)
        folder.unlink()
        eventually(ground.path.exists)
        eventually(lambda: ground.stored()["beat"] > first)


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf", ""])
def test_a_time_that_is_none_is_refused(ground: Ground, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XFERLAB_LEASE_S", text)
    with pytest.raises(UsageError, match=f"^XFERLAB_LEASE_S={text!r}: accepted are seconds, more than 0$"):
        ground.lease()
