from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.records.conftest import SECRET
from xferlab.errors import StorageError, without_query
from xferlab.records import reader
from xferlab.records.store import Store

# --- the contract, on both kinds of storage -------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"", b"x", bytes(range(256)) * 40, os.urandom(11 * 2**20)],
    ids=["empty", "byte", "binary", "parts"],
)
def test_what_is_written_is_read(store: Store, data: bytes) -> None:
    store.write("a/b/c.bin", b"long before" * 1000)
    store.write("a/b/c.bin", data)
    assert store.read("a/b/c.bin") == Store.open(store.location).read("a/b/c.bin") == data
    assert store.size("a/b/c.bin") == len(data)
    assert store.exists("a/b/c.bin")
    assert store.exists("a/b")
    assert store.size("a/b") is None  # a folder is no file


def test_what_is_absent_is_nothing_and_no_error(store: Store) -> None:
    assert store.read("a/b") is None
    assert store.size("a/b") is None
    assert not store.exists("a/b")
    assert store.list("a") == store.walk("a") == []
    store.delete("a/b")
    store.delete_dir("a")


def test_names_are_listed_in_order_and_one_level_deep(store: Store) -> None:
    for name in ("t/b/x", "t/a/x/y", "t/c", "t2/d"):
        store.write(name, b"x")
    assert store.list("t") == ["a", "b", "c"]
    assert store.list("t/a") == ["x"]
    assert [name for name, _ in store.walk("t")] == ["t/a/x/y", "t/b/x", "t/c"]


def test_deleting_takes_a_file_or_a_folder_with_all_of_it(store: Store) -> None:
    for name in ("t/a/x", "t/a/y/z", "t/b", "t/c"):
        store.write(name, b"x")
    for _ in range(2):
        store.delete("t/c")
        assert store.list("t") == ["a", "b"]
    for _ in range(2):
        store.delete_dir("t/a")
        assert store.list("t") == ["b"]
    assert store.read("t/a/y/z") is None


def test_a_file_is_created_once(store: Store) -> None:
    assert store.create("t/lease", b"mine")
    assert not store.create("t/lease", b"yours")
    assert store.read("t/lease") == b"mine"
    store.delete("t/lease")
    assert store.create("t/lease", b"yours")
    store.write("t/lease", b"theirs")
    assert store.list("t") == ["lease"]  # nothing is left behind


# --- a local folder ----------------------------------------------------------------------------------------


def test_a_relative_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store.open("results")
    monkeypatch.chdir("/")
    store.write("a", b"x")
    assert (tmp_path / "results/a").read_bytes() == b"x"
    assert store.shown == str(tmp_path / "results")


def test_a_file_uri_is_local_too(tmp_path: Path) -> None:
    store = Store.open(f"file://{tmp_path}/results/")
    assert store.is_local
    store.write("a", b"x")
    assert (tmp_path / "results/a").read_bytes() == b"x"


def test_a_file_where_a_folder_should_be_is_told(local: Store) -> None:
    local.write("a", b"x")
    with pytest.raises(StorageError, match=r"/a/b: cannot be written: .*exists"):
        local.write("a/b", b"y")
    with pytest.raises(StorageError, match=r"/a/b: cannot be written"):
        local.create("a/b", b"y")
    assert local.read("a") == b"x"


def test_a_link_whose_answer_was_lost_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, real = Store.open(tmp_path), os.link

    def link(*paths: str) -> None:
        real(*paths)
        raise FileExistsError(errno.EEXIST, "injected", *paths)

    monkeypatch.setattr(os, "link", link)
    assert store.create("lease", b"mine")
    monkeypatch.setattr(os, "link", real)
    assert not store.create("lease", b"other")
    assert os.listdir(tmp_path) == ["lease"]


def test_a_folder_cannot_be_read_as_a_file(local: Store) -> None:
    local.write("a/b", b"x")
    with pytest.raises(StorageError, match="a: cannot be read"):
        local.read("a")


WRITE_FOR_EVER = """
import sys
from xferlab.records.store import Store
store = Store.open(sys.argv[1])
number = 0
while True:
    store.write("record", bytes([number % 256]) * 200_000)
    number += 1
    print(number, flush=True)
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_a_whole_file(local: Store, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path)]
    for attempt in range(12):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            deadline = time.monotonic() + 0.02 + 0.005 * attempt
            while time.monotonic() < deadline:  # a reader meets whole files while it writes, too
                data = local.read("record")
                assert data is not None
                assert data == data[:1] * 200_000
            os.kill(child.pid, signal.SIGKILL)
        data = local.read("record")
        assert data is not None
        assert data == data[:1] * 200_000


# --- keys stay out of messages -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        (f"s3://user:{SECRET}@bucket/prefix", "s3://bucket/prefix"),
        (f"s3://bucket/prefix?secret_key={SECRET}", "s3://bucket/prefix"),
        (f"s3://user:a?{SECRET}@bucket/prefix", "s3://..."),
        (f"s3://user:a/{SECRET}@bucket/prefix", "s3://bucket/prefix"),
        (f"s3://bucket/p?secret_key=a@{SECRET}", "s3://..."),
    ],
)
def test_a_location_is_shown_without_keys(uri: str, shown: str) -> None:
    assert without_query(uri) == shown


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://user:{SECRET}@bucket/p?nonsense={SECRET}",
        f"s3://user:{SECRET}@buc ket/p",
        f"s3://user:{SECRET}@bucket/p a",
        f"s3://user:a/{SECRET}@bucket/p",
        f"nope://user:{SECRET}@host/p?key={SECRET}",
        f"s3://user:{SECRET}@/p",
        f"gs://user:{SECRET}@bucket/p",
    ],
)
def test_a_bad_uri_is_refused_without_its_keys(uri: str) -> None:
    with pytest.raises(StorageError, match="cannot be opened") as caught:
        Store.open(uri)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.component
def test_errors_of_an_object_store_do_not_tell_its_keys(s3_uri: str) -> None:
    store = Store.open(s3_uri)
    assert SECRET in store.location
    with pytest.raises(StorageError) as caught:
        reader.read_plan(store, "s")
    assert "bucket" in str(caught.value)
    absent = Store.open(
        s3_uri.replace("@bucket/", "@no-such-bucket/").replace("creation=true", "creation=false")
    )
    with pytest.raises(StorageError, match=r"no-such-bucket/.*/a: cannot be written") as denied:
        absent.write("a", b"x")
    for text in (str(caught.value), str(denied.value), repr(store), store.shown):
        assert SECRET not in text


@pytest.mark.component
def test_a_small_file_is_one_request(s3_uri: str, caplog: pytest.LogCaptureFixture) -> None:
    store = Store.open(s3_uri)
    with caplog.at_level(logging.INFO, "werkzeug"):
        store.write("a", b"x" * 10_000)
    requests = [record.getMessage() for record in caplog.records if "/a" in record.getMessage()]
    assert len(requests) == 1
    assert "PUT" in requests[0]


def test_a_storage_in_a_home_folder_that_is_not_known_is_told() -> None:
    with pytest.raises(StorageError, match=r"home folder that is not known; give another with --storage"):
        Store.open("~nobody-of-that-name/results")
