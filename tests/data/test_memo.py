"""Digests: equal to hashlib's, never read twice, never believed when a file changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from xferlab.data.memo import FileMemo

LONG_AGO_S = 1_700_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    root.mkdir()
    for name in ("a", "b"):
        (root / name).write_bytes(name.encode() * 5000)
        os.utime(root / name, (LONG_AGO_S, LONG_AGO_S))
    return root


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def reopened(tmp_path: Path, root: Path) -> FileMemo:
    return FileMemo(tmp_path / "memo", root)


def test_digests_are_those_of_the_bytes(tmp_path: Path, root: Path) -> None:
    digests, failures = reopened(tmp_path, root).digests(["a", "b", "a"])
    assert digests == {"a": sha(root / "a"), "b": sha(root / "b")}
    assert failures == {}


def test_known_files_are_not_read(tmp_path: Path, root: Path) -> None:
    memo = reopened(tmp_path, root)
    before, _ = memo.digests(["a", "b"])
    memo.save()
    # Other bytes behind the same size and time: only a memo can still know the old digest.
    (root / "a").write_bytes(b"z" * 5000)
    os.utime(root / "a", (LONG_AGO_S, LONG_AGO_S))
    assert reopened(tmp_path, root).digests(["a", "b"])[0] == before


@pytest.mark.parametrize(("content", "time_s"), [(b"z" * 5000, LONG_AGO_S + 1), (b"z" * 4999, LONG_AGO_S)])
def test_another_size_or_time_is_read_again(tmp_path: Path, root: Path, content: bytes, time_s: int) -> None:
    memo = reopened(tmp_path, root)
    memo.digests(["a"])
    memo.save()
    (root / "a").write_bytes(content)
    os.utime(root / "a", (time_s, time_s))
    assert reopened(tmp_path, root).digests(["a"])[0]["a"] == hashlib.sha256(content).hexdigest()


def test_a_file_of_this_moment_is_not_remembered(tmp_path: Path, root: Path) -> None:
    (root / "a").write_bytes(b"new" * 100)
    memo = reopened(tmp_path, root)
    memo.digests(["a"])
    memo.save()
    status = os.stat(root / "a")
    (root / "a").write_bytes(b"old" * 100)
    os.utime(root / "a", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert reopened(tmp_path, root).digests(["a"])[0]["a"] == sha(root / "a")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": {"a": 1}, "facts": {}}', '{"files": {}}'])
def test_torn_memo_counts_as_empty(tmp_path: Path, root: Path, content: str) -> None:
    memo = reopened(tmp_path, root)
    memo.digests(["a"])
    memo.save()
    (path,) = (tmp_path / "memo").iterdir()
    path.write_text(content)
    assert reopened(tmp_path, root).digests(["a"])[0]["a"] == sha(root / "a")


def test_unreadable_files_are_told_apart(tmp_path: Path, root: Path) -> None:
    (root / "folder").mkdir()
    digests, failures = reopened(tmp_path, root).digests(["a", "absent", "folder"])
    assert set(digests) == {"a"}
    assert failures == {"absent": "No such file or directory", "folder": "Is a directory"}


def test_facts_are_remembered(tmp_path: Path, root: Path) -> None:
    memo = reopened(tmp_path, root)
    assert memo.fact("lesion x") is None
    memo.remember("lesion x", "yes")
    memo.save()
    assert reopened(tmp_path, root).fact("lesion x") == "yes"


def test_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path, root: Path) -> None:
    (tmp_path / "memo").write_text("a file where the folder should be")
    memo = reopened(tmp_path, root)
    memo.digests(["a"])
    memo.save()
    assert reopened(tmp_path, root).digests(["a"])[0]["a"] == sha(root / "a")


def test_what_is_no_file_is_told_and_never_opened(tmp_path: Path, root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    (root / "circle").symlink_to("circle")
    names = ["pipe", "folder", "circle", "a\0b", "x" * 300, "absent", "a"]
    digests, failures = reopened(tmp_path, root).digests(names)
    assert digests == {"a": sha(root / "a")}
    assert failures == {
        "pipe": "Is no regular file",
        "folder": "Is a directory",
        "circle": "Too many levels of symbolic links",
        "a\0b": "embedded null byte",
        "x" * 300: "File name too long",
        "absent": "No such file or directory",
    }


def test_a_memo_with_a_flipped_bit_is_not_believed(tmp_path: Path, root: Path) -> None:
    memo = reopened(tmp_path, root)
    truth, _ = memo.digests(["a", "b"])
    memo.save()
    (path,) = (tmp_path / "memo").iterdir()
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert reopened(tmp_path, root).digests(["a", "b"]) == (truth, {}), place
