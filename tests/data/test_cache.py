"""What every table of decoded cases promises: built once, never torn, shared by all that use its cases."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from tests.data.conftest import Folder, index_sections
from tests.refusals import problems_of
from xferlab.data import cache
from xferlab.data.cache import check_cache, default_cache_dir, open_table
from xferlab.data.case_table import CaseTable, read_table
from xferlab.errors import DataError, StorageError, UsageError

FOLDERS = {16: "16px", "native": "native"}


@pytest.fixture(params=list(FOLDERS), ids=list(FOLDERS.values()))
def size(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def opened(many_sizes: Folder, size: Any, opener: Any) -> Callable[..., CaseTable]:
    """Opens the table of a section, by default of all images and for all of its cases."""
    return lambda config=None, **more: opener(config or many_sizes.section(), size=size, **more)


def pixels(table: CaseTable) -> dict[str, list[np.ndarray]]:
    """Digest -> image and target, copied."""
    return {digest: [np.array(array) for array in table.case(digest)[:2]] for digest in table.digests}


def assert_equal(table: CaseTable, expected: dict[str, list[np.ndarray]]) -> None:
    for digest, arrays in expected.items():
        for array, other in zip(table.case(digest)[:2], arrays, strict=True):
            assert np.array_equal(array, other)


def cached(tmp_path: Path, ending: str) -> Path:
    """The file of the only table."""
    (path,) = (tmp_path / "cache").rglob(f"*.{ending}")
    return path


@pytest.mark.parametrize("environ", [{"XFERLAB_CACHE": "~nobody-of-that-name/cache"}, {}])
def test_a_cache_in_a_home_folder_that_is_not_known_is_reported(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    monkeypatch.setattr(os, "environ", environ)
    monkeypatch.setattr(pwd, "getpwuid", _no_entry)
    with pytest.raises(UsageError, match=r"home folder that is not known; set XFERLAB_CACHE to a folder"):
        default_cache_dir()


def _no_entry(uid: int) -> Any:
    raise KeyError(f"getpwuid(): uid not found: {uid}")


def test_known_cases_need_neither_decoding_nor_files(
    many_sizes: Folder, opened: Any, decoded: list[str]
) -> None:
    first, config = opened(), many_sizes.section()
    before = pixels(first)
    shutil.rmtree(many_sizes.root)
    again = opened(config, digests=list(reversed(first.digests))[:2])
    assert len(decoded) == 6
    assert again.digests == first.digests
    assert_equal(again, before)


def test_filters_and_sections_share_the_work(many_sizes: Folder, opened: Any, decoded: list[str]) -> None:
    portable = opened(many_sizes.section(where={"device": "portable"}))
    assert sorted(decoded) == ["images/0.png", "images/3.png"]
    everything = opened()
    assert sorted(decoded) == [f"images/{n}.png" for n in range(6)]
    opened(many_sizes.section(where={"device": "fixed"}, same_patient=[["p1", "p2"]]))
    assert len(decoded) == 6
    assert_equal(everything, pixels(portable))


def test_new_cases_are_added_to_what_is_known(many_sizes: Folder, opened: Any, decoded: list[str]) -> None:
    before = pixels(opened())
    many_sizes.rows.append(many_sizes.add(6))
    many_sizes.write()
    table = opened()
    assert len(table.digests) == 7
    assert_equal(table, before)
    assert decoded[6:] == ["images/6.png"]


def test_progress_counts_every_case_once(opened: Any) -> None:
    calls: list[tuple[int, int]] = []
    opened(progress=lambda *call: calls.append(call))
    assert calls == [(n, 6) for n in range(1, 7)]


def test_rows_follow_the_request(opened: Any) -> None:
    table = opened()
    assert table.rows(list(reversed(table.digests))).tolist() == [5, 4, 3, 2, 1, 0]
    with pytest.raises(DataError, match="1 of 2 cases are not in this table, such as abc"):
        table.rows([table.digests[0], "abc"])


def test_all_bad_cases_at_once_and_nothing_is_left(many_sizes: Folder, tmp_path: Path, opened: Any) -> None:
    for name in ("images/1.png", "masks/4.png"):
        (many_sizes.root / name).write_bytes(b"broken")
    assert sorted(Path(p.where).name for p in problems_of(DataError, opened)) == ["1.png", "4.png"]
    assert {path.suffix for path in (tmp_path / "cache" / "tables-v6").rglob("*.*")} == {".lock"}


def test_files_that_changed_since_the_plan(opened: Any) -> None:
    with pytest.raises(DataError, match=r"data\.s: 1 of 1 planned cases are not there any more, such as abc"):
        opened(digests=["abc"])


def flip(path: Path, place: int) -> None:
    """Changes a bit as a failing disk does: neither size nor time stamp tell."""
    status = path.stat()
    with open(path, "r+b") as file:
        file.seek(place)
        (old,) = file.read(1)
        file.seek(place)
        file.write(bytes([old ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size


def cut(path: Path, keep: int) -> None:
    """Puts the first bytes of a file in its place: a file that is mapped is not written over."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:keep])


DAMAGES = {
    "empty": lambda path: cut(path, 0),
    "short": lambda path: cut(path, -9),
    "gone": Path.unlink,
    "flipped": lambda path: flip(path, random.Random(path.suffix).randrange(path.stat().st_size)),
}


@pytest.mark.parametrize("part", ["images", "targets", "json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_table_is_built_again(
    tmp_path: Path, opened: Any, decoded: list[str], part: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = pixels(opened())
    assert caplog.records == []
    path = cached(tmp_path, part)
    index = path.with_suffix(".json")
    DAMAGES[damage](path)
    for _ in range(2):
        assert_equal(opened(), before)
        assert len(decoded) == 12
    told = [f"{index}: does not have the bytes that were written; building it again"]
    assert [record.getMessage() for record in caplog.records] == told * ((part, damage) != ("json", "gone"))


def test_damaged_rows_do_not_enter_other_tables(
    many_sizes: Folder, tmp_path: Path, opened: Any, decoded: list[str]
) -> None:
    before = pixels(opened())
    flip(cached(tmp_path, "images"), 0)
    many_sizes.rows.append(many_sizes.add(6))
    many_sizes.write()
    assert_equal(opened(), before)
    assert len(decoded) == 6 + 7


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read as a whole for their digest."""
    names: list[str] = []
    digest = hashlib.file_digest

    def counting(file: Any, kind: Any) -> Any:
        names.append(Path(file.name).name)
        return digest(file, kind)

    monkeypatch.setattr(hashlib, "file_digest", counting)
    return names


def test_bytes_are_read_once_per_process_and_file(
    many_sizes: Folder, tmp_path: Path, opened: Any, hashed: list[str]
) -> None:
    opened(many_sizes.section(where={"device": "portable"}))
    other = cached(tmp_path, "images")
    hashed.clear()
    opened(many_sizes.section(where={"device": "fixed"}))
    assert other.name not in hashed  # a table without one of these cases
    for path in (tmp_path / "cache").rglob("*.json"):
        path.unlink()
    digests = opened().digests
    path = max((tmp_path / "cache").rglob("*.images"), key=lambda path: path.stat().st_size)
    hashed.clear()
    for _ in range(3):
        opened(digests=digests)
    assert path.name not in hashed
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, (1, 1))
    for _ in range(3):
        opened(digests=digests)
    assert hashed.count(path.name) == 1  # another file at the same path


def test_leftovers_of_killed_builders_are_removed(tmp_path: Path, size: Any, opened: Any) -> None:
    folder = tmp_path / "cache" / f"tables-v{cache.CACHE_VERSION}" / FOLDERS[size]
    folder.mkdir(parents=True)
    (folder / "dead.images.tmp").write_bytes(b"x")
    (folder / "alive.images.tmp").write_bytes(b"x")
    with FileLock(folder / "alive.lock"):
        opened()
    assert [path.name for path in folder.glob("*.tmp")] == ["alive.images.tmp"]


def test_full_disk(opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"cannot be written: No space left on device\. .*XFERLAB_CACHE"):
        opened()
    assert not list((tmp_path / "cache").rglob("*.tmp"))


@pytest.mark.parametrize(
    ("module", "call", "error", "lacks"),
    [
        (fcntl, "flock", errno.ENOLCK, "file locks"),
        (fcntl, "flock", errno.ENOSYS, "file locks"),
        (mmap, "mmap", errno.ENODEV, "files that can be mapped into memory"),
    ],
)
def test_a_file_system_that_lacks_what_a_cache_needs_is_named(
    opened: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    call: str,
    error: int,
    lacks: str,
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(module, call, refuse)
    said = rf"cannot lie there: the file system has no {lacks} .*XFERLAB_CACHE name a folder on a local disk"
    for use in (opened, partial(check_cache, tmp_path / "cache")):
        with pytest.raises(StorageError, match=said):
            use()


def test_cache_folder_that_is_a_file(opened: Any, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(StorageError, match="cache: the image cache cannot be written"):
        opened()


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"XFERLAB_CACHE": "/fast/disk", "XDG_CACHE_HOME": "/xdg"}, "/fast/disk"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/xferlab"),
        ({"HOME": "/home/somebody"}, "/home/somebody/.cache/xferlab"),
    ],
)
def test_default_folder(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], folder: str) -> None:
    monkeypatch.setattr(os, "environ", environ)
    assert default_cache_dir() == Path(folder)


def test_a_cache_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StorageError, match=r"Not a directory\. Make the folder writable, or let XFERLAB_CACHE name"
    ):
        check_cache(tmp_path / "file" / "cache")
    check_cache(tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


BUILT_SIZES = pytest.mark.parametrize("size", [32, "native"])

BUILD = """
import sys
from pathlib import Path
from xferlab.data.cache import open_table
from xferlab.data.sources.registry import open_source, read_section

config = read_section({"source": "phantom_cxr", "count": 24, "size_px": 64})
cache = Path(sys.argv[1])
digests = [case.digest for case in open_source("s", config, memo_dir=cache / "digests").cases()]
built = []
print("ready", flush=True)
sys.stdin.readline()
count = lambda *numbers: built.append(numbers)
size = "native" if sys.argv[2] == "native" else int(sys.argv[2])
open_table({"s": config}, size=size, digests=digests, cache_dir=cache, progress=count)
print(len(built), flush=True)
"""


def start(cache: Path, size: Any) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(cache), str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def build_here(section: Any, cache: Path, size: Any) -> CaseTable:
    config = section(source="phantom_cxr", count=24, size_px=64)
    digests = [case.digest for case in index_sections({"s": config}, memo_dir=cache / "digests")["s"]]
    return open_table({"s": config}, size=size, digests=digests, cache_dir=cache)


@pytest.mark.slow
@BUILT_SIZES
def test_killed_anywhere_then_built_equal(section: Any, tmp_path: Path, size: Any) -> None:
    start_s = time.perf_counter()
    expected = build_here(section, tmp_path / "undisturbed", size)
    duration_s = time.perf_counter() - start_s
    draw = random.Random(0)
    cache = tmp_path / "killed"
    killed = 0
    for _ in range(8):
        process = start(cache, size)
        go(process)
        # The moment of the kill is the subject of the test; nothing is waited for.
        try:
            process.communicate(timeout=draw.uniform(0, 1.2 * duration_s))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += 1
        for path in cache.rglob("*.json"):
            assert path.parent.name == "digests" or read_table(path) is not None
            path.unlink()  # so that the next one builds again
    table = build_here(section, cache, size)
    assert killed > 0
    assert len(expected.digests) == 24
    for digest in expected.digests:
        for array, other in zip(table.case(digest), expected.case(digest), strict=True):
            assert np.array_equal(array, other, equal_nan=array.dtype == np.float32)
    assert not list(cache.rglob("*.tmp"))


@pytest.mark.slow
@BUILT_SIZES
@pytest.mark.parametrize("damaged", [False, True], ids=["none", "damaged"])
def test_two_processes_build_once(section: Any, tmp_path: Path, size: Any, damaged: bool) -> None:
    if damaged:
        build_here(section, tmp_path / "cache", size)
        (path,) = (tmp_path / "cache").rglob("*.images")
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    processes = [start(tmp_path / "cache", size) for _ in range(2)]
    for process in processes:
        go(process)
    built = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sorted(built) == [0, 24]
    assert [process.returncode for process in processes] == [0, 0]
    assert len(list((tmp_path / "cache").rglob("*.images"))) == 1
