"""Servers on loopback, for the time of a block."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar


class Closable(http.server.ThreadingHTTPServer):
    """A server whose handlers may wait until it closes.

    Attributes:
        closing: Set when it does.
    """

    daemon_threads = True

    def __init__(self, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.closing = threading.Event()


S = TypeVar("S", bound=Closable)


@contextmanager
def served(server: S) -> Iterator[S]:
    """Runs a server for the time of a block."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
