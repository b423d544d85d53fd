"""A reused process is put into the state that a trial's identity names."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from xferlab.errors import MachineError
from xferlab.records.store import Store
from xferlab.tasks.config import Execution
from xferlab.trial import environment
from xferlab.trial.examples import TrialContext

CPU = Execution(device="cpu", precision="float32", compile=False, threads=1)


@pytest.fixture(autouse=True)
def _as_before() -> object:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def test_threads_and_flags_are_those_of_the_identity() -> None:
    torch.use_deterministic_algorithms(True)
    for threads in (2, 1):
        assert environment.prepare(CPU.model_copy(update={"threads": threads})) == torch.device("cpu")
        assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_network_may_have_more_kernels_than_pytorch_makes_by_itself(monkeypatch) -> None:
    from torch._dynamo.testing import CompileCounter

    monkeypatch.setattr(environment, "_try_to_compile", id)  # a compiler is not asked for here
    environment.prepare(CPU.model_copy(update={"compile": True}))
    counter = CompileCounter()
    compiled = torch.compile(torch.nn.Linear(2, 1), backend=counter, dynamic=False)
    for number in range(1, 20):
        compiled(torch.zeros(number, 2))
    assert counter.frame_count == 19


CANNOT = """
from xferlab.errors import MachineError
from xferlab.tasks.config import Execution
from xferlab.trial import environment
for _ in range(2):
    try:
        environment.prepare(Execution(device="cpu", precision="float32", compile=True, threads=1))
    except MachineError as error:
        print(error)
"""
TORN = """#!/bin/sh
test "$1" = --version || { echo 'fatal error: Python.h: No such file or directory' >&2; exit 1; }
"""


@pytest.mark.parametrize("compiler", ["", TORN], ids=["absent", "lacks headers"])
def test_a_machine_that_cannot_compile_says_what_it_takes(tmp_path: Path, compiler: str) -> None:
    path = tmp_path / "compiler"
    if compiler:
        path.write_text(compiler)
        path.chmod(0o755)
    where = {"CXX": str(path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CANNOT],
        env={**os.environ, **where},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second
    assert "this machine compiles nothing for cpu" in first
    assert first.endswith(
        "g++ and python3-dev) and, on a GPU, Triton. Install them, or set `training.compile: false`."
    )


PEAK = """
import torch
from xferlab.tasks.config import Execution
from xferlab.trial import environment
from xferlab.trial.examples import TrialContext
cpu = torch.device("cpu")
earlier = torch.ones(2**27)  # half a GiB, freed before the trial begins
del earlier
environment.prepare(Execution(device="cpu", precision="float32", compile=False, threads=1))
before = environment.memory_peak_gib(cpu)
block = torch.ones(2**26)  # a quarter of a GiB
print(environment.memory_peak_gib(cpu) - before)
"""


def test_the_memory_peak_is_that_of_this_trial() -> None:
    # In a process of its own: here, blocks that other tests freed would be used again.
    said = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert float(said.stdout) == pytest.approx(0.25, abs=0.05)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_an_absent_device_is_reported() -> None:
    with pytest.raises(MachineError, match=r"sees no CUDA device\. Give the stage a GPU"):
        environment.prepare(CPU.model_copy(update={"device": "cuda", "deterministic": True}))


def test_predictions_for_others_compute_as_their_trial_did(tmp_path: Path) -> None:
    """The number of threads decides about the last bits; it is the process's own again afterwards."""
    before = torch.get_num_threads()
    execution = Execution(device="cpu", precision="float32", compile=False, threads=before + 1)
    context = TrialContext(Store.open(tmp_path), tmp_path, torch.device("meta"))
    with environment.computing_as(execution, context) as computing:
        assert computing == replace(context, device=torch.device("cpu"))
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with environment.computing_as(execution.model_copy(update={"device": "cuda"}), context) as computing:
        assert computing == context
