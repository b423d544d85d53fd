"""Trying again what may pass by itself, and telling when a storage does not answer at all.

Errors of S3 come without a number and are not tried again here: pyarrow has done so 30 times, which takes 6 s
(500, 503, resets) to 100 s (no answer).
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger("xferlab.records")

DELAYS_S = (0.1, 0.4, 1.5)
"""Pauses between the attempts at one operation; a full disk is given the first two only."""
STALLED_AFTER_S = 30.0
"""An operation that lasts longer is told, and again after as long."""

_FULL = {errno.ENOSPC, errno.EDQUOT}
_PASSING = {
    errno.EIO,
    errno.ESTALE,
    errno.EAGAIN,
    errno.EINTR,
    errno.EBUSY,
    errno.ETIMEDOUT,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.ECONNABORTED,
    errno.EPIPE,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.EREMOTEIO,
}
Result = TypeVar("Result")


def with_retries(operation: Callable[[], Result], *, what: str) -> Result:
    """Returns what an operation returns; tries again, a few times and briefly, after an error that may pass.

    Args:
        operation: One that may be done twice.
        what: The operation, for messages.

    Raises:
        OSError: The last attempt's.
    """
    with _watch.over(what):
        for attempt in range(len(DELAYS_S) + 1):
            try:
                return operation()
            except OSError as error:
                if attempt >= _retries(error):
                    raise
                log.warning("%s: %s; trying again in %g s", what, error, DELAYS_S[attempt])
                time.sleep(DELAYS_S[attempt])
    raise AssertionError("unreachable: the last attempt returns or raises")


def _retries(error: OSError) -> int:
    """How often to try again after an error."""
    if error.errno in _FULL:
        return min(2, len(DELAYS_S))
    return len(DELAYS_S) if error.errno in _PASSING else 0


class _Watch:
    """Tells of operations that last: nobody can interrupt a call into a dead mount, but silence misleads."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[str, float]] = {}
        self._told: dict[int, float] = {}
        self._thread: threading.Thread | None = None
        self._pause = threading.Event()  # never set: a pause

    def over(self, what: str) -> _Watched:
        # Not alive in a forked child either, where threads are gone.
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._look, name="xferlab-stalls", daemon=True)
            self._thread.start()
        return _Watched(self._since, what)

    def _look(self) -> None:
        while True:
            self._pause.wait(min(1.0, STALLED_AFTER_S))
            self._tell(time.monotonic())

    def _tell(self, now: float) -> None:
        for key, (what, since) in list(self._since.items()):
            told = max(since, self._told.get(key, 0.0))
            if now - told >= STALLED_AFTER_S:
                self._told[key] = now
                log.warning(
                    "%s: no answer for %.0f s; waiting. If the storage does not come back, stop this process "
                    "(kill -9 if need be) and run the same command again",
                    what,
                    now - since,
                )


class _Watched:
    def __init__(self, since: dict[int, tuple[str, float]], what: str):
        self._since, self._what = since, what

    def __enter__(self) -> None:
        self._since[threading.get_ident()] = (self._what, time.monotonic())

    def __exit__(self, *error: object) -> None:
        self._since.pop(threading.get_ident(), None)


_watch = _Watch()
