"""A sealed file is told from one that is damaged, unsealed or another's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.data.conftest import await_tick
from xferlab.data.checksum import FileIdentity, is_intact, replace_sealed, seal_path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sealed file."""
    return sealed(tmp_path / "a.arrow", b"pixels")


def sealed(path: Path, content: bytes) -> Path:
    written = path.with_suffix(".table.tmp")
    written.write_bytes(content)
    replace_sealed(written, path)
    return path


def test_sealed_file_is_intact_and_alone(path: Path) -> None:
    assert is_intact(FileIdentity.of(path))
    assert sorted(one.name for one in path.parent.iterdir()) == ["a.arrow", "a.sha256"]


@pytest.mark.parametrize("seal", [b"", b"\xff\xfe", b"0" * 64 + b"  a.arrow\n"])
def test_other_seal(path: Path, seal: bytes) -> None:
    seal_path(path).write_bytes(seal)
    assert not is_intact(FileIdentity.of(path))


def test_file_that_another_replaced_is_not_that_which_was_mapped(path: Path) -> None:
    mapped = FileIdentity.of(path)
    sealed(path, b"others")
    assert not is_intact(mapped)
    assert is_intact(FileIdentity.of(path))


def test_altered_bytes_behind_equal_time_stamps_are_found(path: Path) -> None:
    before, status = FileIdentity.of(path), path.stat()
    assert is_intact(before)
    await_tick(path)
    with open(path, "r+b") as file:
        file.write(b"P")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not is_intact(FileIdentity.of(path))


def test_who_asks_between_the_renames_does_not_remember_it_of_the_new_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    between: list[bool] = []

    def replace(source: Path, target: Path) -> None:
        os.rename(source, target)
        between.append(is_intact(FileIdentity.of(path)))

    monkeypatch.setattr(os, "replace", replace)
    sealed(path, b"others")
    assert between == [False, True]
    assert is_intact(FileIdentity.of(path))
