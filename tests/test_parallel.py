"""Work in threads: results in order, the first failure stops what has not begun."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator

import pytest

from xferlab import parallel
from xferlab.parallel import for_each, in_background, num_workers


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


@pytest.mark.parametrize("threads", [1, 3])
def test_items_are_made_while_others_are_worked_on_but_only_so_many_ahead(threads: int) -> None:
    made: list[int] = []
    begun: list[int] = []
    fourth = threading.Event()

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            if number == 3:
                fourth.set()
            yield number

    def work(number: int) -> int:
        begun.append(number)
        assert fourth.wait(60), "no fourth item is made before the first one is done"
        return number * number

    results = in_background(items(), work, threads=threads, ahead=3)
    for number in range(5):
        assert next(results) == number * number
        assert made == list(range(number + 4))
    results.close()
    assert len(made) == 8
    assert len(begun) <= 8
    assert list(in_background(range(5), work, threads=threads, ahead=0)) == [0, 1, 4, 9, 16]
