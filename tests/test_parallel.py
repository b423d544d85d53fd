"""Work in threads: results in order, the first failure stops what has not begun."""

from __future__ import annotations

import threading
import warnings

import pytest

from xferlab import parallel
from xferlab.parallel import for_each, num_workers


def test_results_are_in_the_order_of_the_items() -> None:
    gate = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            gate.wait(10)
        else:
            gate.set()
        return number * number

    if num_workers() == 1:
        gate.set()
    calls: list[tuple[int, int]] = []
    assert for_each(range(5), work, progress=lambda *c: calls.append(c)) == [0, 1, 4, 9, 16]
    assert calls == [(n, 5) for n in range(1, 6)]
    assert for_each([], work) == []


def test_the_first_failure_drops_what_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "num_workers", lambda: 1)
    begun: list[int] = []
    told = threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise KeyboardInterrupt
        told.wait(60)  # whatever else has begun waits until the failure of 0 reached the caller

    shutdown = parallel.ThreadPoolExecutor.shutdown

    def telling(self: object, *, wait: bool = True, cancel_futures: bool = False) -> None:
        shutdown(self, wait=False, cancel_futures=cancel_futures)  # type: ignore[arg-type]
        told.set()
        shutdown(self, wait=wait)  # type: ignore[arg-type]

    monkeypatch.setattr(parallel.ThreadPoolExecutor, "shutdown", telling)
    with pytest.raises(KeyboardInterrupt):
        for_each(range(1000), work)
    assert len(begun) <= 2


def test_remarks_of_decoders_are_silenced_and_those_of_others_are_not() -> None:
    def decoder(_: int) -> None:
        warnings.warn_explicit("odd tag", UserWarning, "x.py", 1, module="PIL.TiffImagePlugin")

    def other(_: int) -> None:
        warnings.warn_explicit("look", UserWarning, "x.py", 1, module="numpy")

    for_each([0], decoder)
    with pytest.raises(UserWarning, match="look"):
        for_each([0], other)
