"""Files that a command names: whole or not at all, and nothing else is replaced."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from xferlab.cli.written import write_file
from xferlab.errors import UsageError


def test_a_full_disk_keeps_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "cases.csv"
    write_file(path, "before\r\n")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        UsageError, match=f"^--cases {path}: cannot be written: No space left on device; free"
    ):
        write_file(path, "after", shown=f"--cases {path}")
    assert [each.read_bytes() for each in path.parent.iterdir()] == [b"before\r\n"]


def test_a_link_and_a_pipe_stay_what_they_are(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    write_file(link, "text")
    assert link.is_symlink()
    assert target.read_text() == "text"
    read, write = os.pipe()
    with open(read, encoding="utf-8") as reader:
        write_file(f"/dev/fd/{write}", "through")
        os.close(write)
        assert reader.read() == "through"


def test_a_private_file_is_so_even_where_it_replaces_another(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    path.write_text("")
    path.chmod(0o644)
    write_file(path, "text", private=True)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_name_that_is_no_utf8_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^x\.yaml: would hold a name .* folder: '  root: c\\udcff'$"):
        write_file(tmp_path / "x.yaml", "data:\n  root: c\udcff\nseed: 1\n", shown="x.yaml")
    assert list(tmp_path.iterdir()) == []
