"""Digests: equal to hashlib's, never read twice, never believed when a file changed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.data.conftest import await_tick
from xferlab.data import memo
from xferlab.data.memo import FileMemo
from xferlab.errors import DataError, FileUnavailableError

pytestmark = pytest.mark.usefixtures("remembering")
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


def planned(tmp_path: Path, root: Path) -> dict[str, str]:
    """What one process after the other would find: the digests of both files, remembered if they may be."""
    memo = reopened(tmp_path, root)
    digests, failures = memo.digests(["a", "b"])
    memo.save()
    assert failures == {}
    return digests


def test_known_files_are_not_read_to_be_planned(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = planned(tmp_path, root)
    assert before == {"a": sha(root / "a"), "b": sha(root / "b")}
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert planned(tmp_path, root) == before
    assert reopened(tmp_path, root).read("a", before["a"]) == b"a" * 5000


def rewritten(path: Path) -> None:
    path.write_bytes(b"z" * 5000)


def replaced(path: Path) -> None:
    path.with_name("new").write_bytes(b"z" * 5000)
    os.replace(path.with_name("new"), path)


def swapped(path: Path) -> None:
    os.rename(path, path.with_name("c"))
    os.rename(path.with_name("b"), path)
    os.rename(path.with_name("c"), path.with_name("b"))


def linked(path: Path) -> None:
    path.unlink()
    path.symlink_to("b")


def hard_linked(path: Path) -> None:
    path.unlink()
    path.hardlink_to(path.with_name("b"))


def rewritten_by_its_other_name(path: Path) -> None:
    path.with_name("c").hardlink_to(path)
    rewritten(path.with_name("c"))


def cut(path: Path) -> None:
    os.truncate(path, 4999)


CHANGES = [rewritten, replaced, swapped, linked, hard_linked, rewritten_by_its_other_name, cut]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("time_s", [LONG_AGO_S, LONG_AGO_S + 1])
def test_a_changed_file_is_read_again_whatever_its_time_stamp(
    tmp_path: Path, root: Path, change: Callable[[Path], None], time_s: int
) -> None:
    before = planned(tmp_path, root)
    await_tick(root / "a")
    change(root / "a")
    os.utime(root / "a", (time_s, time_s))
    os.utime(root / "b", (LONG_AGO_S, LONG_AGO_S))
    after = planned(tmp_path, root)
    assert after == {name: sha(root / name) for name in "ab"}
    assert after["a"] != before["a"]


def test_a_file_of_this_moment_is_not_remembered(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a tick of the file system's clock, a second change leaves no trace."""
    monkeypatch.undo()
    path, now_ns = root / "a", time.time_ns()
    os.utime(path, ns=(now_ns, now_ns))
    planned(tmp_path, root)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: hashlib.sha256(b"read again"))
    assert planned(tmp_path, root)["a"] == hashlib.sha256(b"read again").hexdigest()


@pytest.mark.parametrize("stamp", ["st_mtime_ns", "st_ctime_ns"])
def test_either_time_makes_a_file_young(
    tmp_path: Path, root: Path, stamp: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memo, "_RACY_S", 2.0)
    old = {"st_size": 1, "st_mtime_ns": 0, "st_ctime_ns": 0, "st_ino": 1}
    now_ns = 10**18
    for age_s, expected in ((1.9, False), (2.1, True)):
        status = SimpleNamespace(**old | {stamp: now_ns - int(age_s * 1e9)})
        assert memo.is_settled(status, now_ns) is expected


def test_a_file_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.file_digest
    await_tick(root / "a")

    def interrupted(file: Any, kind: str) -> Any:
        found = digest(file, kind)
        rewritten(Path(file.name))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", interrupted)
        planned(tmp_path, root)
    assert planned(tmp_path, root) == {name: sha(root / name) for name in "ab"}


def test_a_memo_of_the_layout_before_is_not_believed(tmp_path: Path, root: Path) -> None:
    """Version 1 remembered neither change time nor inode."""
    planned(tmp_path, root)
    (path,) = (tmp_path / "memo").iterdir()
    status = os.stat(root / "a")
    content = json.dumps(
        {"files": {"a": [status.st_size, status.st_mtime_ns, "0" * 64]}, "facts": {"lesion x": "yes"}}
    )
    old = f"{hashlib.sha256(content.encode()).hexdigest()}\n{content}"
    path.write_text(old)
    path.with_name(path.name.replace(".v2", "")).write_text(old)
    memo = reopened(tmp_path, root)
    assert memo.digests(["a"])[0] == {"a": sha(root / "a")}
    assert memo.facts({"a": "lesion x"}, lambda name: None) == ({}, {})


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": {"a": 1}, "facts": {}}', '{"files": {}}'])
def test_torn_memo_counts_as_empty(tmp_path: Path, root: Path, content: str) -> None:
    planned(tmp_path, root)
    (path,) = (tmp_path / "memo").iterdir()
    for text in (content, f"{hashlib.sha256(content.encode()).hexdigest()}\n{content}"):
        path.write_text(text)
        assert reopened(tmp_path, root).digests(["a"])[0]["a"] == sha(root / "a")


def test_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path, root: Path) -> None:
    (tmp_path / "memo").write_text("a file where the folder should be")
    for _ in range(2):
        assert planned(tmp_path, root)["a"] == sha(root / "a")


def test_what_is_no_file_is_reported_and_never_opened(tmp_path: Path, root: Path) -> None:
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
    truth = planned(tmp_path, root)
    (path,) = (tmp_path / "memo").iterdir()
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert reopened(tmp_path, root).digests(["a", "b"]) == (truth, {}), place


def test_other_bytes_are_refused_and_nothing_that_is_remembered_is_believed_any_more(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a file system has no change time: without forgetting, planning again would not help."""
    monkeypatch.setattr(memo, "stamp_of", lambda status: (status.st_size, 0, 0, 0))
    before = planned(tmp_path, root)
    rewritten(root / "a")
    stale = reopened(tmp_path, root)
    stale.facts({"a": "lesion x"}, lambda name: True)
    assert stale.digests(["a", "b"])[0] == before
    with pytest.raises(FileUnavailableError) as caught:
        reopened(tmp_path, root).read("a", before["a"])
    (problem,) = caught.value.problems
    assert problem.where == str(root / "a")
    assert problem.what == (
        f"changed since the study was planned: its SHA-256 was {before['a'][:16]}... and is now"
        f" {sha(root / 'a')[:16]}.... Plan the study again, or restore the file."
    )
    stale.save()  # what another process had in memory does not come back
    assert planned(tmp_path, root)["a"] == sha(root / "a")


def test_what_cannot_be_read_any_more_is_reported(tmp_path: Path, root: Path) -> None:
    (root / "a").unlink()
    with pytest.raises(FileUnavailableError, match=r"files/a: cannot be read: No such file or directory\."):
        reopened(tmp_path, root).read("a", "0" * 64)
    os.mkfifo(root / "a")
    with pytest.raises(FileUnavailableError, match="cannot be read: Is no regular file"):
        reopened(tmp_path, root).read("a", "0" * 64)


def test_files_larger_than_any_image_are_not_read(tmp_path: Path, root: Path) -> None:
    os.truncate(root / "a", memo.MAX_BYTES + 1)
    with pytest.raises(DataError, match=r"has 1,073,741,825 bytes; up to 1,073,741,824 are accepted\."):
        reopened(tmp_path, root).read("a", "0" * 64)
