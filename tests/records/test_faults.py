"""Errors of a storage: what may pass is tried again, all else stops cleanly, nothing is ever half there."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.records.faults import Faults, faulty, faulty_disk, nth, onwards, without_pauses
from xferlab.errors import StorageError
from xferlab.records import retries
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
    "write anew": lambda store: store.write("t/new/b", AFTER),
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


def counting(error: OSError) -> Callable[[], None]:
    attempts = []

    def operation() -> None:
        attempts.append(1)
        if len(attempts) < 9:
            raise error

    operation.attempts = attempts  # type: ignore[attr-defined]
    return operation


@pytest.mark.parametrize(
    ("number", "attempts"),
    [
        *((name, 4) for name in ("EIO", "ESTALE", "EAGAIN", "ETIMEDOUT", "ECONNRESET")),
        *((name, 3) for name in ("ENOSPC", "EDQUOT")),
        *((name, 1) for name in ("EACCES", "EPERM", "ENOENT", "ENOTDIR", "EISDIR", "EROFS", "EFBIG")),
    ],
)
def test_only_what_may_pass_is_tried_again(number: str, attempts: int) -> None:
    operation = counting(OSError(getattr(errno, number), "injected"))
    with pytest.raises(OSError, match="injected"):
        retries.persistently(operation, what="it")
    assert len(operation.attempts) == attempts  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "attempts"),
    [
        ("When reading ...: AWS Error SLOW_DOWN during PutObject operation: Please reduce", 4),
        ("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 28, Timeout was reached", 4),
        ("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation: No response body.", 4),
        ("AWS Error ACCESS_DENIED during PutObject operation", 1),
        ("AWS Error NO_SUCH_BUCKET during PutObject operation", 1),
        ("AWS Error UNKNOWN (HTTP status 403) during HeadObject operation: No response body.", 1),
    ],
)
def test_of_s3_only_what_may_pass_is_tried_again(text: str, attempts: int) -> None:
    operation = counting(OSError(text))
    with pytest.raises(OSError, match="AWS Error"):
        retries.persistently(operation, what="it")
    assert len(operation.attempts) == attempts  # type: ignore[attr-defined]


def test_retries_are_few_short_and_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(OSError, match="injected"):
        retries.persistently(counting(OSError(errno.EIO, "injected")), what="/st/a")
    assert caplog.messages == ["/st/a: [Errno 5] injected; trying again in 0 s"] * len(PAUSES_S)
    assert sum(PAUSES_S) < 5


# --- a disk without hard links -----------------------------------------------------------------------------


def no_links(error: int = errno.EPERM) -> Faults:
    return Faults(onwards(1), error=error, on=lambda operation, path: operation == "link")


@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_hard_links_one_still_creates(tmp_path: Path, error: int) -> None:
    store = Store.open(tmp_path)
    with faulty_disk(no_links(error)) as faults:
        assert store.create("t/lease", b"mine")
        assert not store.create("t/lease", b"yours")
        with ThreadPoolExecutor(8) as pool:
            for number in range(10):
                won = list(pool.map(lambda who, n=number: store.create(f"{n}", bytes([who]) * 99), range(8)))
                assert sum(won) == 1
                assert store.read(str(number)) == bytes([won.index(True)]) * 99
    assert faults.num_failed == 2 + 80
    assert store.read("t/lease") == b"mine"
    assert store.list("t") == ["lease"]


def test_another_error_of_a_link_is_no_reason_to_do_without(tmp_path: Path) -> None:
    with faulty_disk(no_links(errno.EACCES)), pytest.raises(StorageError, match="cannot be written"):
        Store.open(tmp_path).create("lease", b"mine")
    assert list(tmp_path.iterdir()) == []
