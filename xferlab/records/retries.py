"""Tries again what may pass by itself, and warns when a storage does not answer at all.

Errors of S3 come without a number and are not tried again here: pyarrow has done so 30 times, which takes 6 s
(500, 503, resets) to 100 s (no answer).
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

log = logging.getLogger("xferlab.records")

DELAYS_S = (0.1, 0.4, 1.5)
"""Pauses between the attempts at one operation."""
FULL_DISK_RETRIES = 2
"""A full disk is given fewer attempts."""
STALLED_AFTER_S = 30.0
"""After this time a warning says that an operation lasts, and again after as long."""

_FULL = {errno.ENOSPC, errno.EDQUOT}
_PASSING = {
    *_FULL,
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
        OSError: That of the last attempt.
    """
    with _watch.over(what):
        for retry, delay_s in enumerate(DELAYS_S):
            try:
                return operation()
            except OSError as error:
                if error.errno not in _PASSING or (error.errno in _FULL and retry == FULL_DISK_RETRIES):
                    raise
                log.warning("%s: %s; trying again in %g s", what, error, delay_s)
                time.sleep(delay_s)
        return operation()


class _Watch:
    """Warns of operations that last: nobody can interrupt a call into a dead mount, but silence misleads."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[str, float]] = {}
        self._warned: dict[int, float] = {}
        self._thread: threading.Thread | None = None
        self._pause = threading.Event()  # never set: a pause

    @contextmanager
    def over(self, what: str) -> Iterator[None]:
        """Watches what this thread does while it is entered."""
        # Not alive in a forked child either, where threads are gone.
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._look, name="xferlab-stalls", daemon=True)
            self._thread.start()
        self._since[threading.get_ident()] = (what, time.monotonic())
        try:
            yield
        finally:
            self._since.pop(threading.get_ident(), None)

    def _look(self) -> None:
        while True:
            self._pause.wait(min(1.0, STALLED_AFTER_S))
            now = time.monotonic()
            for thread, (what, since) in list(self._since.items()):
                if now - max(since, self._warned.get(thread, 0.0)) >= STALLED_AFTER_S:
                    self._warned[thread] = now
                    log.warning(
                        "%s: no answer for %.0f s; waiting. If the storage does not come back, stop this "
                        "process (kill -9 if need be) and run the same command again",
                        what,
                        now - since,
                    )


_watch = _Watch()
