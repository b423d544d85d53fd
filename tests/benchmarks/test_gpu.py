"""The benchmark for GPUs, on the CPU: all parts run, and one that fails leaves the others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import gpu
import pytest

from tests.end_to_end.processes import until_gone

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


OUTLIVED = """
import subprocess, sys, time
print("first", "1 s", "", sep="\\t", flush=True)
print("a line that some library prints", flush=True)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, "is", "the child", sep="\\t", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("limit", ["its own", "all parts'"])
def test_a_part_that_takes_too_long_is_ended_with_all_that_it_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str
) -> None:
    (tmp_path / "part.py").write_text(OUTLIVED)
    monkeypatch.setattr(gpu, "__file__", str(tmp_path / "part.py"))
    if limit == "its own":
        monkeypatch.setitem(gpu.LIMITS_S, "limits", 3.0)
    rows = gpu.run_part(
        "limits", folder=tmp_path, rehearse=True, within_s=3.0 if limit == "all parts'" else 99.0
    )
    first, child, end = rows
    assert (first, end) == (("first", "1 s", ""), ("limits", "FAILED", "took more than 3 s"))
    until_gone([int(child[0])], within_s=10.0)


def test_a_measurement_that_fails_leaves_the_others() -> None:
    def broken() -> tuple[str, str]:
        raise RuntimeError("no memory\n\tat all")

    def absent() -> tuple[str, str]:
        raise ImportError("no such library")

    assert [*gpu.tried("one", broken)] == [("one", "FAILED", "RuntimeError: no memory at all")]
    assert [*gpu.tried("two", absent)] == [("two", "none", "ImportError: no such library")]
    assert [*gpu.tried("three", lambda: ("1", ""))] == [("three", "1", "")]


def test_what_ended_a_part_is_in_its_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "__file__", str(SCRIPT.with_name("absent.py")))
    ((name, value, reason),) = gpu.run_part("limits", folder=tmp_path, rehearse=True, within_s=60.0)
    assert (name, value) == ("limits", "FAILED")
    assert "absent.py" in reason


NOT_NEEDED = ("ray", "wandb", "monai", "batchgenerators", "pydicom", "nibabel", "optuna", "onnxruntime")
COLLECTED = f"""
import sys
sys.modules |= dict.fromkeys({NOT_NEEDED}, None)
import gpu, packing, works
import pytest
sys.exit(pytest.main(["-q", "--collect-only", "-m", "gpu", "-p", "no:cacheprovider", "tests/gpu"]))
"""


@pytest.mark.slow
def test_what_gpu_sh_runs_needs_few_packages() -> None:
    root = SCRIPT.parents[1]
    done = subprocess.run(
        [sys.executable, "-c", COLLECTED], cwd=root, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'benchmarks'}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "error" not in done.stdout
