"""The first signal asks, the second insists; afterwards the process is as it was."""

from __future__ import annotations

import signal
import threading

import pytest

from xferlab.schedule.stop import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_raises(number: signal.Signals) -> None:
    with StopRequest() as stop:
        assert not stop.asked()
        signal.raise_signal(number)
        assert stop.asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_handlers_of_before_are_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def fail() -> None:
        with StopRequest():
            assert signal.getsignal(number) != before
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert signal.getsignal(number) is before


def test_beside_the_main_thread_no_handler_is_touched() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def enter() -> None:
        with StopRequest() as stop:
            seen.append((stop.asked(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
