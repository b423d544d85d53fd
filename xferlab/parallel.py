"""Work on many cases in the threads of one process: decoding and resizing leave Python's lock."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]
"""Called with (done, all)."""


def for_each(
    items: Sequence[Item], work: Callable[[Item], Result], *, progress: Progress | None = None
) -> list[Result]:
    """Returns the results of `work` in the order of the items.

    The first exception, Ctrl-C included, drops what has not begun, lets what runs finish, and is raised.

    Args:
        items: What to work on.
        work: Called from several threads at once.
        progress: Called after each item, in the calling thread.
    """
    pool = ThreadPoolExecutor(num_workers())
    # Decoders remark on odd tags of files that they read well. Set once around the pool: the
    # filters belong to the process, and threads that change them disturb each other.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(PIL|pydicom)\b")
        try:
            futures = [pool.submit(work, item) for item in items]
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                if progress is not None:
                    progress(done, len(items))
        finally:
            pool.shutdown(cancel_futures=True)
    return [future.result() for future in futures]


def in_background(
    items: Iterable[Item], work: Callable[[Item], Result], *, threads: int, ahead: int
) -> Generator[Result, None, None]:
    """Yields the results of `work` in the order of the items, which the calling thread makes meanwhile.

    An exception of `work` is raised in place of its result. Then, and when the iterator is closed, what has
    not begun is dropped, and what runs finishes.

    Args:
        items: What to work on; an item is made when it is needed.
        work: Called in threads, from several at once.
        threads: How many; 0 works in the calling thread, on each item before the next one is made.
        ahead: How many results may be outstanding while the next item is made.
    """
    if not threads:
        yield from map(work, items)
        return
    pool, outstanding = ThreadPoolExecutor(threads), deque[Future[Result]]()
    try:
        for item in items:
            outstanding.append(pool.submit(work, item))
            if len(outstanding) > ahead:
                yield outstanding.popleft().result()
        while outstanding:
            yield outstanding.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def num_workers() -> int:
    """Returns the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
