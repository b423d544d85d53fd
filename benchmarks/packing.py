"""Several trials on one GPU: in processes, in processes that share it by MPS, on streams of one process."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from multiprocessing import get_context
from operator import mul

import torch
from engine import EngineWay, wait
from turns import Setting

from xferlab.training.precision import float32

Rates = list[float]
"""Images a second of each trial."""
STEPS_FIRST = 6
"""Steps before the timed ones: a step is recorded in the third, and the last batch of an epoch is another."""

MPS_ANSWERS_WITHIN_S = 10.0
READY_WITHIN_S = 60.0
"""Longest wait for each other: where one fails, the others do not wait for it for ever."""

# Vidal et al. 2021: 25 repetitions of two stages on 6,302 and 300 images, 60 % for training and 20 % for
# validation. A repetition took 2,333 s and 68.1 s, an epoch with its validation 39.32 s and 2.21 s (table 7).
REPETITIONS, EPOCHS, TRAINED_ON, VALIDATED_ON = 25, (59, 31), (3781, 180), (1261, 60)


def study_minutes(training: float, validation: float) -> float:
    """Returns how long the trainings of the paper's whole study take at such rates, in images a second."""
    each = [sum(map(mul, EPOCHS, images)) for images in (TRAINED_ON, VALIDATED_ON)]
    return REPETITIONS * (each[0] / training + each[1] / validation) / 60


@contextmanager
def mps() -> Iterator[None]:
    """Starts NVIDIA's service that lets kernels of several processes run side by side, and ends it again.

    Raises:
        FileNotFoundError: It is not on this machine.
    """
    if shutil.which("nvidia-cuda-mps-control") is None:
        raise FileNotFoundError("nvidia-cuda-mps-control is not on this machine")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        own = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        os.environ |= own
        # A daemon keeps what it is given open, and nobody would see the end of this process's output.
        closed = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": MPS_ANSWERS_WITHIN_S}
        control = "nvidia-cuda-mps-control"
        subprocess.run([control, "-d"], stdin=subprocess.DEVNULL, check=True, **closed)
        try:
            yield
        finally:
            subprocess.run([control], input="quit\n", text=True, check=False, **closed)
            for name in own:
                del os.environ[name]


def in_processes(setting: Setting, number: int, *, lasting: float) -> Rates:
    """Trains in so many processes for so many seconds; each with recorded steps; all begin together."""
    context = get_context("spawn")
    ready = context.Barrier(number, timeout=READY_WITHIN_S)
    with ProcessPoolExecutor(number, mp_context=context, initializer=_open, initargs=(ready,)) as pool:
        given = [(setting, lasting)] * number
        return list(pool.map(_in_process, given, chunksize=1))


_READY: list[Callable[[], object]] = []


def _open(ready: threading.Barrier) -> None:
    _READY.append(ready.wait)


def _in_process(given: tuple[Setting, float]) -> float:
    setting, lasting = given
    way = _warm(setting)
    _READY[0]()
    return _rate(way, lasting)


def on_streams(setting: Setting, number: int, *, lasting: float) -> Rates:
    """Trains in so many threads of this process, each with recorded steps on a stream of its own."""
    streams = [torch.cuda.Stream() if setting.device == "cuda" else None for _ in range(number)]
    ways: list[EngineWay] = []
    for stream in streams:
        with _on(stream):
            ways.append(_warm(setting))
    ready = threading.Barrier(number, timeout=READY_WITHIN_S)

    def run(way: EngineWay, stream: torch.cuda.Stream | None) -> float:
        with _on(stream):
            ready.wait()
            return _rate(way, lasting)

    # Each step sets the switches of the process, which are then as it wants them already.
    with float32(), ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, ways, streams))


def _on(stream: torch.cuda.Stream | None) -> AbstractContextManager[object]:
    return nullcontext() if stream is None else torch.cuda.stream(stream)


def _warm(setting: Setting) -> EngineWay:
    way = EngineWay(setting, cuda_graph=setting.device == "cuda")
    for _ in islice(way.steps(), STEPS_FIRST):
        pass
    wait()
    return way


def _rate(way: EngineWay, lasting: float) -> float:
    started, trained = time.perf_counter(), 0
    for num_images, _ in way.steps():
        trained += num_images
        if time.perf_counter() - started >= lasting:
            break
    wait()
    return trained / (time.perf_counter() - started)
