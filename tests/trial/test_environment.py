"""A reused process is put into the state that a trial's identity names."""

from __future__ import annotations

import pytest
import torch

from xferlab.errors import TrainingError
from xferlab.trial import environment

pytestmark = pytest.mark.component
CPU = {"device": "cpu", "threads": 1}


@pytest.fixture(autouse=True)
def _as_before() -> object:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def test_threads_and_flags_are_those_of_the_identity() -> None:
    torch.use_deterministic_algorithms(True)
    for threads in (2, 1):
        assert environment.prepare({**CPU, "threads": threads}) == torch.device("cpu")
        assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_memory_peak_is_that_of_this_trial() -> None:
    environment.prepare(CPU)
    before = environment.memory_peak_gib(torch.device("cpu"))
    block = torch.ones(2**26)  # a quarter of a GiB
    assert environment.memory_peak_gib(torch.device("cpu")) - before == pytest.approx(0.25, abs=0.05)
    del block


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_an_absent_device_is_told() -> None:
    with pytest.raises(TrainingError, match=r"sees no CUDA device\. Give the stage a GPU"):
        environment.prepare({"device": "cuda", "deterministic": True})
