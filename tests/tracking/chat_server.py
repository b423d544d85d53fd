"""A chat on loopback that takes messages by POST, or misbehaves."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SECRET = "T0KEN/5ecretPath"


class Chat(http.server.ThreadingHTTPServer):
    """The server.

    Attributes:
        told: The messages that it took, with their paths.
        status: What it answers; 0 for nothing at all.
    """

    daemon_threads = True

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.status = status
        self.closing = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/{SECRET}"

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [body for _, body in self.told]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Chat

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.told.append((self.path, body))
        if self.server.status == 0:
            self.server.closing.wait()
            return
        self.send_response(self.server.status)
        if 300 <= self.server.status < 400:
            self.send_header("Location", f"{self.server.address}/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, format: str, *args: Any) -> None:
        return


@contextmanager
def chat(status: int = 200) -> Iterator[Chat]:
    """Runs a chat for the time of a block."""
    with Chat(status) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
