"""Reports of large studies: how long they take, and how much memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.analysis.conftest import STUDY, StudyBuilder
from xferlab.analysis import load_study
from xferlab.metrics.claims import Claims, Place

GIB = 2**20
"""In the KiB that the system counts."""
MAX_GIB = 2
_REPORT = """
import re, sys
from xferlab.analysis import write_report
write_report(*sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arms", "images", "rows", "limit_s"),
    [(10, 18, 327_000, 60), (4, 140, 1_000_000, 120)],
    ids=["arms", "rows"],
)
def test_a_large_report(tmp_path: Path, arms: int, images: int, rows: int, limit_s: int) -> None:
    """Of arms with 25 repetitions of stages `general` and `portable`, and a donor."""
    names = ("baseline", *(f"arm{number}" for number in range(1, arms)))
    pairs = tuple((Place(name, "portable"), Place("baseline", "portable")) for name in names[1:])
    claims = Claims("DICE", "portable.hold_out", 0.01, pairs, declared=True)
    few = {"missing": set(), "pixels": False, "epochs": 20, "noise": 0.05}
    builder = StudyBuilder(tmp_path / "s", arms=names, repetitions=25, images=images, claims=claims, **few)
    storage = builder.write()
    assert len(load_study(storage, STUDY).cases) > rows
    started = time.monotonic()
    words = [sys.executable, "-c", _REPORT, str(storage), STUDY, str(tmp_path / "out")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    cpu_s = used.ru_utime + used.ru_stime
    assert process.returncode == 0
    peak = int(said.split()[-1])  # its `ru_maxrss` begins with the memory of the process that started it
    print(f"{arms} arms, {rows:,} rows: {seconds:.0f} s, CPU {cpu_s:.0f} s, {peak / GIB:.2f} GiB")
    assert seconds < limit_s
    assert peak < MAX_GIB * GIB
