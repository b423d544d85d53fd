"""Builders in real processes: killed anywhere, or several at once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xferlab.data.cache import ImageTable, NativeTable, open_native, open_table
from xferlab.leakage.index import index_sections

pytestmark = pytest.mark.slow
KINDS = pytest.mark.parametrize("kind", ["resized", "native"])

BUILD = """
import sys
from pathlib import Path
from pydantic import TypeAdapter
from xferlab.data.cache import open_native, open_table
from xferlab.leakage.index import index_sections
from xferlab.study.sections import DataSection

config = TypeAdapter(DataSection).validate_python({"source": "phantom_cxr", "count": 24, "size_px": 64})
cache = Path(sys.argv[1])
digests = [case.digest for case in index_sections({"s": config}, memo_dir=cache / "digests")["s"]]
built = []
print("ready", flush=True)
sys.stdin.readline()
count = lambda *numbers: built.append(numbers)
if sys.argv[2] == "native":
    open_native("s", config, digests=digests, cache_dir=cache, progress=count)
else:
    open_table("s", config, size_px=32, digests=digests, cache_dir=cache, progress=count)
print(len(built), flush=True)
"""


def start(cache: Path, kind: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(cache), kind],
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


def build_here(section: Any, cache: Path, kind: str) -> ImageTable | NativeTable:
    config = section(source="phantom_cxr", count=24, size_px=64)
    digests = [case.digest for case in index_sections({"s": config}, memo_dir=cache / "digests")["s"]]
    if kind == "native":
        return open_native("s", config, digests=digests, cache_dir=cache)
    return open_table("s", config, size_px=32, digests=digests, cache_dir=cache)


@KINDS
def test_killed_anywhere_then_built_equal(section: Any, tmp_path: Path, kind: str) -> None:
    start_s = time.perf_counter()
    expected = build_here(section, tmp_path / "undisturbed", kind)
    duration_s = time.perf_counter() - start_s
    draw = random.Random(0)
    cache = tmp_path / "killed"
    killed = 0
    for _ in range(8):
        process = start(cache, kind)
        go(process)
        # The moment of the kill is the subject of the test; nothing is waited for.
        try:
            process.communicate(timeout=draw.uniform(0, 1.2 * duration_s))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += 1
        for path in cache.rglob("*.arrow"):
            assert path.stat().st_size > 24 * 32 * 32 * 2
            path.unlink()  # so that the next one builds again
    table = build_here(section, cache, kind)
    assert killed > 0
    assert table.digests == expected.digests
    for row in range(24):
        for found, wanted in zip(table.case(row), expected.case(row), strict=True):
            assert np.array_equal(found, wanted, equal_nan=found.dtype == np.float32)
    assert not list(cache.rglob("*.tmp"))


@KINDS
@pytest.mark.parametrize("damaged", [False, True], ids=["none", "damaged"])
def test_two_processes_build_once(section: Any, tmp_path: Path, kind: str, damaged: bool) -> None:
    if damaged:
        build_here(section, tmp_path / "cache", kind)
        (path,) = (tmp_path / "cache").rglob("*.arrow")
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    processes = [start(tmp_path / "cache", kind) for _ in range(2)]
    for process in processes:
        go(process)
    built = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sorted(built) == [0, 24]
    assert [process.returncode for process in processes] == [0, 0]
    assert len(list((tmp_path / "cache").rglob("*.arrow"))) == 1
