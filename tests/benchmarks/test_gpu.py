"""The benchmark for GPUs, on the CPU: all parts run, and one that fails leaves the others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import gpu
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.sh"


@pytest.mark.slow
def test_a_rehearsal_runs_all_parts() -> None:
    done = subprocess.run(
        [SCRIPT, "--rehearse"], env={**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "FAILED" in done.stdout) == (0, False), done.stdout
    said, _, table = done.stdout.partition("| what | measured | |")
    assert [line.partition(":")[0] for line in said.splitlines() if line.endswith(" s")] == [*gpu.PARTS]
    assert len(table.splitlines()) >= len(gpu.PARTS) + 2


def test_a_part_that_takes_too_long_is_ended_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu.LIMITS_S, "limits", 0.05)
    assert gpu.run_part("limits", rehearse=True) == [("limits", "FAILED", "took more than 0.05 s")]


def test_what_ended_a_part_is_in_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "__file__", str(SCRIPT.with_name("absent.py")))
    ((name, value, reason),) = gpu.run_part("limits", rehearse=True)
    assert (name, value) == ("limits", "FAILED")
    assert "absent.py" in reason
