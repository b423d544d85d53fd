"""Errors of a storage: what may pass is tried again, all else stops cleanly, nothing is ever half there."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from tests.records.faults import Faults, faulty, faulty_disk, nth, onwards, without_pauses
from tests.records.stored import epoch
from xferlab.errors import StorageError
from xferlab.records import reader, retries, writer
from xferlab.records.files import Files
from xferlab.records.store import Store

PAUSES_S = retries.DELAYS_S
BEFORE, AFTER = b"before" * 50, b"after" * 70


@pytest.fixture(autouse=True)
def _at_once() -> Iterator[None]:
    with without_pauses():
        yield


Disturb = Callable[[Faults], Any]


@pytest.fixture(params=["disk", "objects"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def disturbed(kind: str, store: Store, faults: Faults, work: Callable[[Store], Any]) -> Any:
    """Does some work on a storage that fails."""
    if kind == "objects":
        return work(faulty(store, faults))
    with faulty_disk(faults):
        return work(store)


WORK: dict[str, Callable[[Store], Any]] = {
    "read": lambda store: store.read("t/a"),
    "size": lambda store: store.size("t/a"),
    "write": lambda store: store.write("t/a", AFTER),
    "write new": lambda store: store.write("t/new/b", AFTER),
    "create": lambda store: store.create("t/b", AFTER),
    "create again": lambda store: store.create("t/a", AFTER),
    "list": lambda store: store.list("t"),
    "delete": lambda store: store.delete("t/a"),
    "delete dir": lambda store: store.delete_dir("t"),
    "set aside": lambda store: bool(store.set_aside("t/a")),
}


def content(store: Store) -> dict[str, bytes]:
    root = Path(store.root)
    names = {path: str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    return {name.split(".damaged-")[0]: path.read_bytes() for path, name in names.items()}


def visible(store: Store) -> dict[str, bytes]:
    """All but what a failed tidying up has left."""
    return {name: data for name, data in content(store).items() if not name.endswith(".tmp")}


def prepared(folder: Path) -> Store:
    store = Store.open(folder)
    store.write("t/a", BEFORE)
    return store


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("work", WORK.values(), ids=WORK.keys())
def test_a_fault_that_passes_changes_nothing_at_whichever_operation(
    kind: str, tmp_path: Path, work: Callable[[Store], Any], late: bool
) -> None:
    counted, calm = Faults(), prepared(tmp_path / "calm")
    answer = disturbed(kind, calm, counted, work)
    assert counted.log
    for number in range(1, len(counted.log) + 1):
        store, faults = prepared(tmp_path / str(number)), Faults(nth(number), late=late)
        assert disturbed(kind, store, faults, work) == answer
        assert faults.num_failed == 1
        assert visible(store) == content(calm)
        assert content(store) == content(calm) or faults.log[number - 1][0] == "unlink"


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("work", WORK.values(), ids=WORK.keys())
def test_a_fault_that_stays_is_told_and_leaves_whole_files(
    kind: str, tmp_path: Path, work: Callable[[Store], Any], late: bool
) -> None:
    counted, calm = Faults(), prepared(tmp_path / "calm")
    disturbed(kind, calm, counted, work)
    for number in range(1, len(counted.log) + 1):
        store, faults = prepared(tmp_path / str(number)), Faults(onwards(number), late=late)
        try:
            disturbed(kind, store, faults, work)
        except StorageError as error:
            assert "injected: Input/output error" in str(error)  # noqa: PT017 - the last may be a tidying up
            assert "/t" in str(error)  # noqa: PT017
        assert set(visible(store).values()) <= {BEFORE, AFTER}
        work(store)
        assert visible(store) == content(calm)


@pytest.mark.parametrize(
    ("number", "attempts"),
    [
        *((name, 4) for name in ("EIO", "ESTALE", "EAGAIN", "ETIMEDOUT", "ECONNRESET")),
        *((name, 3) for name in ("ENOSPC", "EDQUOT")),
        *((name, 1) for name in ("EACCES", "EPERM", "ENOENT", "ENOTDIR", "EISDIR", "EROFS", "EFBIG")),
    ],
)
def test_only_what_may_pass_is_tried_again(number: str, attempts: int) -> None:
    operation = Mock(side_effect=OSError(getattr(errno, number), "injected"))
    with pytest.raises(OSError, match="injected"):
        retries.with_retries(operation, what="it")
    assert operation.call_count == attempts


def test_retries_are_few_short_and_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(OSError, match="injected"):
        retries.with_retries(Mock(side_effect=OSError(errno.EIO, "injected")), what="/st/a")
    assert caplog.messages == ["/st/a: [Errno 5] injected; trying again in 0 s"] * len(PAUSES_S)
    assert sum(PAUSES_S) < 5


# --- a disk without hard links -----------------------------------------------------------------------------


def no_links(error: int = errno.EPERM) -> Faults:
    return Faults(onwards(1), error=error, on=lambda operation, path: operation == "link")


@pytest.mark.parametrize("error", [None, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_with_or_without_hard_links_one_creates(local: Store, error: int | None) -> None:
    with faulty_disk(no_links(error) if error else Faults()) as faults:
        assert local.create("t/lease", b"mine")
        assert not local.create("t/lease", b"yours")
        with ThreadPoolExecutor(8) as pool:
            for number in range(10):
                won = list(pool.map(lambda who, n=number: local.create(f"{n}", bytes([who]) * 99), range(8)))
                assert sum(won) == 1
                assert local.read(str(number)) == bytes([won.index(True)]) * 99
    assert faults.num_failed == (2 + 80 if error else 0)
    assert local.read("t/lease") == b"mine"
    assert local.list("t") == ["lease"]


def test_another_error_of_a_link_is_no_reason_to_do_without(tmp_path: Path) -> None:
    with faulty_disk(no_links(errno.EACCES)), pytest.raises(StorageError, match="cannot be written"):
        Store.open(tmp_path).create("lease", b"mine")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS])
def test_folders_that_cannot_be_synced_take_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def fsync(descriptor: int, sync: Callable[[int], None] = os.fsync) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(error, os.strerror(error))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store = Store.open(tmp_path)
    store.write("record", BEFORE)
    assert store.read("record") == BEFORE


# --- a client that remembers what is not there, as those of NFS do -----------------------------------------


@pytest.fixture
def remembering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A storage in which nothing is there before the folder that holds it is opened."""
    opened, call = {str(tmp_path)}, os.open

    def is_seen(path: str) -> bool:
        return os.path.dirname(path) in opened

    def client(method: str, absent: Any) -> Callable[..., Any]:
        ask = getattr(Files, method)
        return lambda files, path, **options: ask(files, path, **options) if is_seen(path) else absent

    def open_folder(path: str, flags: int, *rest: Any) -> int:
        if flags & os.O_DIRECTORY and not is_seen(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        opened.add(path)
        return call(path, flags, *rest)

    for method, absent in (("read", None), ("look", None), ("list", [])):
        monkeypatch.setattr(Files, method, client(method, absent))
    monkeypatch.setattr(os, "open", open_folder)
    return tmp_path / "storage"


@pytest.mark.parametrize(
    "found",
    [
        lambda store: store.read("trials/t/record") == BEFORE,
        lambda store: store.size("trials/t/record") == len(BEFORE),
        lambda store: store.list("trials/t") == ["record"],
    ],
    ids=["read", "size", "list"],
)
def test_what_another_node_has_written_is_there(remembering: Path, found: Callable[[Store], bool]) -> None:
    (remembering / "trials/t").mkdir(parents=True)
    (remembering / "trials/t/record").write_bytes(BEFORE)
    store = Store.open(remembering)
    assert found(store)
    assert store.read("trials/u/record") is None
    assert not store.exists("trials/u")


# --- real disks --------------------------------------------------------------------------------------------


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_leaves_what_was_there_and_takes_more_when_there_is_room(full_disk: Path) -> None:
    store = Store.open(full_disk / "st")
    store.write("record", BEFORE)
    store.write("large", b"x" * 150_000)
    with pytest.raises(StorageError, match=r"record: cannot be written: .*No space left on device"):
        store.write("record", b"y" * 150_000)
    with pytest.raises(StorageError, match=r"lease: cannot be written: .*No space left on device"):
        store.create("lease", b"y" * 150_000)
    assert store.read("record") == BEFORE
    assert store.list("") == ["large", "record"]
    store.delete("large")
    store.write("record", b"y" * 150_000)
    assert store.size("record") == 150_000


def test_a_full_disk_keeps_the_lines_of_a_history(full_disk: Path) -> None:
    """An epoch that is not written stops the trial; what was written before is read."""
    store = Store.open(full_disk / "st")
    history = writer.HistoryFile(store, "t")
    history.append(epoch(1))
    store.write("large", b"x" * 150_000)

    def fill() -> None:
        for number in range(2, 2000):
            history.append(epoch(number))

    with pytest.raises(StorageError, match=r"\.jsonl: cannot be written: .*No space left on device"):
        fill()
    kept = reader.read_history(store, "t")
    assert len(kept) > 100
    assert [one.epoch for one in kept] == list(range(1, len(kept) + 1))


FORBIDDEN = """
import os, sys
from xferlab.errors import StorageError
from xferlab.records.store import Store
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
store = Store.open(sys.argv[1])
for name, arguments in (
    ("write", ("record", b"y")), ("read", ("record",)), ("create", ("b", b"y")), ("walk", ("",))
):
    try:
        getattr(store, name)(*arguments)
    except StorageError as error:
        print(error)
"""


def test_lost_permission_is_told_at_once(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "st")
    store.write("record", BEFORE)
    store.write("closed/a", b"x")
    for closed in ("record", "closed"):  # a folder that cannot be listed is not taken for an empty one
        os.chmod(store.path(closed), 0)
    os.chmod(tmp_path / "st", 0o555)
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        os.chmod(folder, 0o755)
    said = subprocess.run(
        [sys.executable, "-c", FORBIDDEN, str(tmp_path / "st")], capture_output=True, text=True, check=True
    )
    for folder in (tmp_path / "st", tmp_path / "st/closed"):
        os.chmod(folder, 0o755)
    lines = said.stdout.splitlines()
    assert [line.count("Permission denied") for line in lines] == [1, 1, 1, 1]
    assert "record: cannot be written" in lines[0]
    assert "record: cannot be read" in lines[1]
    assert "cannot be listed" in lines[3]
    assert "trying again" not in said.stderr


def test_a_storage_that_does_not_answer_is_told_while_it_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retries, "STALLED_AFTER_S", 0.05)
    answers = threading.Event()
    store = faulty(Store.open(tmp_path), Faults(on=lambda operation, path: answers.wait()))
    (tmp_path / "stuck").write_bytes(b"late")
    read: list[bytes | None] = []
    reading = threading.Thread(target=lambda: read.append(store.read("stuck")))
    with caplog.at_level(logging.WARNING):
        reading.start()
        deadline = time.monotonic() + 30
        while len(caplog.messages) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert reading.is_alive()
        assert len(caplog.messages) >= 2
        answers.set()
        reading.join(30)
    assert read == [b"late"]
    assert all(re.match(r".*/stuck: no answer for \d+ s; waiting\. If", line) for line in caplog.messages)
