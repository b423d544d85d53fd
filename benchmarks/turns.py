"""Ways to do the same work, each in its own process, taking turns."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Protocol

from xferlab.cli.session import cpu_has_bfloat16

WARM_UP = 2
"""Steps at the start of each round that are not timed: pages, loader processes, prefetched batches."""


@dataclass(frozen=True)
class Setting:
    """A task, and one size to measure at.

    Attributes:
        task: A key of `works.WORKS`.
        root: Folder with `metadata.csv`, images and masks.
        cache_dir: Folder for the engine's image cache.
        size_px: Side of the images.
        width: Channels of a U-Net's first level; what those of a classifier are multiplied by.
        threads: Threads of the network, on a CPU.
        device: `cpu` or `cuda`.
        precision: Of training steps; empty for what pays on the device.
    """

    task: str
    root: Path
    cache_dir: Path
    size_px: int
    width: float
    threads: int
    device: str = "cpu"
    precision: str = ""

    @property
    def is_short(self) -> bool:
        """Whether training steps compute in bfloat16."""
        pays = self.device == "cuda" or cpu_has_bfloat16()
        return self.precision == "bfloat16" or (pays and not self.precision)


@dataclass(frozen=True)
class Round:
    """Some consecutive steps: images trained on, seconds, and the mean loss."""

    num_images: int
    seconds: float
    loss: float


class Way(Protocol):
    """A training in progress."""

    def steps(self) -> Iterator[tuple[int, float]]:
        """Trains on, without an end; yields the number of images and the mean loss of each step."""


def timed(
    steps: Iterator[tuple[int, float]], num_steps: int, *, wait: Callable[[], None] = lambda: None
) -> Round:
    """Takes WARM_UP steps, then `num_steps` that are timed; `wait` waits until the device has done them."""
    deque(islice(steps, WARM_UP), maxlen=0)
    wait()
    started = time.perf_counter()
    sizes, losses = zip(*islice(steps, num_steps), strict=True)
    wait()
    return Round(sum(sizes), time.perf_counter() - started, fmean(losses))


def process(
    way: Callable[[Setting], Way] | None = None, setting: Setting | None = None
) -> ProcessPoolExecutor:
    """Returns a new process with its own memory settings and threads; it starts a way if given."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_open, initargs=(way, setting))


_WAYS: list[Way] = []


def _open(way: Callable[[Setting], Way] | None, setting: Setting) -> None:
    if way is not None:
        _WAYS.append(way(setting))


def run_round(num_steps: int) -> Round:
    """Runs a round of the way of this process."""
    return timed(_WAYS[0].steps(), num_steps)
