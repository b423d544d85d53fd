"""Ways to do the same work, each in a process of its own, taking turns."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

WARM_UP = 2
"""Steps at the start of each round that are not timed: pages, loader processes, prefetched batches."""


@dataclass(frozen=True)
class Setting:
    """One size to measure at.

    Attributes:
        root: Folder with `metadata.csv`, images and masks.
        cache_dir: Folder for the engine's image cache.
        size_px: Side of the images.
        width: Channels of the network's first level.
        threads: Threads of the network.
    """

    root: Path
    cache_dir: Path
    size_px: int
    width: int
    threads: int


@dataclass(frozen=True)
class Round:
    """Some consecutive steps: images trained on, seconds, and the mean loss."""

    num_images: int
    seconds: float
    loss: float


class Way(Protocol):
    """A training in progress."""

    def run(self, num_steps: int) -> Round:
        """Trains on: first WARM_UP steps, then `num_steps` that are timed."""


class Process:
    """A way in a process of its own, which has its own memory settings and threads."""

    def __init__(self, way: Callable[[Setting], Way], setting: Setting):
        """Starts with the first round."""
        self._pool = ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_open, initargs=(way, setting)
        )

    def run(self, num_steps: int) -> Round:
        """Runs a round and waits for it."""
        return self._pool.submit(_run, num_steps).result()

    def close(self) -> None:
        """Ends the process."""
        self._pool.shutdown()


def apart(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Returns what a call gives in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *args, **kwargs).result()


_WAYS: list[Way] = []


def _open(way: Callable[[Setting], Way], setting: Setting) -> None:
    _WAYS.append(way(setting))


def _run(num_steps: int) -> Round:
    return _WAYS[0].run(num_steps)
