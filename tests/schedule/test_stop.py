"""The first signal asks, the second insists; afterwards the process is as it was."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from xferlab.errors import ClusterLostError
from xferlab.schedule.stop import SIGNALS, StopNow, StopRequest

either = pytest.mark.parametrize("number", SIGNALS)


@pytest.fixture(autouse=True)
def _hangups_are_not_ignored() -> Iterator[None]:
    """However the tests were started: under nohup they would be."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@either
def test_the_first_signal_asks_and_the_second_raises(number: signal.Signals) -> None:
    with StopRequest() as stop:
        assert not stop.asked()
        stop.check()
        signal.raise_signal(number)
        assert stop.asked()
        assert stop.signal is number
        with pytest.raises(StopNow):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(StopNow) as raised:
            stop.check()
    assert raised.value.signal is number  # what came first says how the process ends


@either
def test_while_nobody_asks_the_first_signal_raises(number: signal.Signals) -> None:
    with StopRequest(graceful=False) as stop:
        with pytest.raises(StopNow) as raised:
            signal.raise_signal(number)
        assert raised.value.signal is number
        assert stop.asked()
    assert isinstance(raised.value, KeyboardInterrupt)  # no `except Exception` holds it up


@either
def test_handlers_of_before_are_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with suppress(ZeroDivisionError), StopRequest() as stop:
        signal.signal(number, signal.SIG_IGN)  # a library takes it for itself
        stop.listen()
        assert signal.getsignal(number) not in (before, signal.SIG_IGN)
        raise ZeroDivisionError
    assert signal.getsignal(number) is before


def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.asked()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_problem_asks_too_and_is_raised_where_nothing_is_saved() -> None:
    stop = StopRequest()
    stop.problem = ClusterLostError("gone")
    assert stop.asked()
    assert stop.signal is None
    with pytest.raises(ClusterLostError, match="gone"):
        stop.check()


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
