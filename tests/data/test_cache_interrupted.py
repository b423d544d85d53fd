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

from tests.data.conftest import index_sections
from xferlab.data.cache import open_table
from xferlab.data.case_table import CaseTable, read_table

pytestmark = pytest.mark.slow
SIZES = pytest.mark.parametrize("size", [32, "native"])

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
open_table("s", config, size=size, digests=digests, cache_dir=cache, progress=count)
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
    return open_table("s", config, size=size, digests=digests, cache_dir=cache)


@SIZES
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


@SIZES
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
